package engine

import (
	"context"

	"dialtone/internal/metric"
)

// Measures holds an engine's measurements of its writes.
type Measures struct {
	// Commit is how long transactions took, from their first statement to the end of COMMIT, in seconds. On
	// PostgreSQL it includes retries.
	Commit *metric.Histogram
	// Group is how many writes shared a transaction of the group commit, and Wait how long writes waited to be
	// started, in seconds. Writes that did not wait are not in Wait.
	Group, Wait *metric.Histogram
}

// NewMeasures returns empty Measures.
func NewMeasures() Measures {
	return Measures{
		Commit: metric.NewHistogram(metric.Latencies), Group: metric.NewHistogram(metric.Sizes),
		Wait: metric.NewHistogram(metric.Latencies),
	}
}

// Measurer is an engine that measures its writes.
type Measurer interface {
	Measures() Measures
	// Load returns the current figures. It takes a few milliseconds at most.
	Load(ctx context.Context) (Load, error)
}

// Peers is an engine that knows which programs are connected to the database.
type Peers interface {
	// Programs returns the versions of the programs of this project that are connected, without repetition.
	Programs(ctx context.Context) ([]string, error)
}

// Load describes the load of an engine at one moment.
type Load struct {
	// Waiting is how many writes wait to be started.
	Waiting int
	// Database is the size of the database in bytes.
	Database int64
	// WAL is the size of the WAL in bytes, or -1 where the engine cannot know it.
	WAL int64
	// Pool describes the connection pool. It is nil for an engine without one.
	Pool *Pool
}

// Pool describes the use of a connection pool.
type Pool struct {
	// Used and Idle are the numbers of open connections, and Max is the limit on their sum.
	Used, Idle, Max int
	// Waits is how often a caller had to wait for a connection since the start.
	Waits int64
}
