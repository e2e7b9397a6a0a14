package mailmsg

// MaxPrepared is how many prepared messages are kept at most.
const MaxPrepared = maxPrepared

// Prepared returns how many prepared messages are kept.
func Prepared() int {
	lately.Lock()
	defer lately.Unlock()
	return len(lately.prepared)
}
