//go:build race

package dictionary

// raceEnabled says that sync.Pool forgets at random, as it does under the race detector.
const raceEnabled = true
