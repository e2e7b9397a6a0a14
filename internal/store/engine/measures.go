package engine

import (
	"context"

	"dialtone/internal/metric"
)

// Measures are what an engine measures of its writes.
type Measures struct {
	// Commit is how long transactions took, from their first statement to the end of COMMIT, in seconds. On
	// PostgreSQL it includes retries.
	Commit *metric.Histogram
	// Group is how many writes shared a transaction of the group commit, and Wait how long writes waited to be
	// started, in seconds. Writes that did not wait are not in Wait.
	Group, Wait *metric.Histogram
}

// NewMeasures returns Measures with nothing in them.
func NewMeasures() Measures {
	return Measures{
		Commit: metric.NewHistogram(metric.Latencies), Group: metric.NewHistogram(metric.Sizes),
		Wait: metric.NewHistogram(metric.Latencies),
	}
}

// Measurer is an engine that measures its writes.
type Measurer interface {
	Measures() Measures
	// Load returns the present figures. It takes a few milliseconds at most.
	Load(ctx context.Context) (Load, error)
}

// Peers is an engine that knows who else is connected to the database.
type Peers interface {
	// Programs returns the versions of the programs of this project that are connected, without repetition.
	Programs(ctx context.Context) ([]string, error)
}

// Load is what an engine holds at one moment.
type Load struct {
	// Waiting is how many writes wait to be started.
	Waiting int
	// Database is the size of the database in bytes.
	Database int64
	// WAL is the size of the WAL in bytes, or -1 where the engine cannot know it.
	WAL int64
	// Pool has the connections of a pool. It is nil for an engine without one.
	Pool *Pool
}

// Pool is the use of a pool of connections.
type Pool struct {
	// Used and Idle are connections that are open, and Max how many may be.
	Used, Idle, Max int
	// Waits is how often a caller had to wait for a connection since the start.
	Waits int64
}
