package config

// removed are the keys of earlier versions that no longer exist, each with the fault that says what to do
// instead. A configuration that still has one is refused: to ignore it could hide accounts.
var removed = map[string]Fault{
	"clusters": {
		Key:     "clusters",
		Problem: "a platform is no longer spread over several databases",
		Hint:    "remove this key and run one deployment for each database, as docs/scaling.md describes",
	},
}
