package mailmsg

// MaxPrepared is the maximum number of prepared messages that are kept.
const MaxPrepared = maxPrepared

// Prepared returns how many prepared messages are kept.
func Prepared() int {
	cache.Lock()
	defer cache.Unlock()
	return len(cache.prepared)
}
