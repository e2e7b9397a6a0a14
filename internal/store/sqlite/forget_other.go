//go:build !linux

package sqlite

// forget does nothing: how other systems treat pages whose fsync failed has not been examined.
func forget(string) error { return nil }
