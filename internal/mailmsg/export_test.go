package mailmsg

// MaxPrepared is how many prepared messages are kept at most.
const MaxPrepared = maxPrepared

// Prepared returns how many prepared messages are kept.
func Prepared() int {
	cache.Lock()
	defer cache.Unlock()
	return len(cache.prepared)
}
