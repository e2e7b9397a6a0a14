package crashfs

import (
	"bytes"
	"hash/maphash"
	"maps"
	"math/rand/v2"
)

const (
	page   = 4096 // the unit in which the cache of the system writes
	sector = 512  // the unit in which a disk writes
)

// disk is the state of a file system: what programs see, and what may be left after a power cut. Only
// apply changes it, so a journal of operations always leads to the same disk. Node 0 is the root
// directory.
type disk struct {
	nodes map[int]*node
	next  int
	// last is the last operation if it was a write: the one that a power cut may tear.
	last *change
}

// node is a file or a directory.
type node struct {
	data, stable []byte // the content of a file for programs, and on disk
	// shared means that stable or another disk uses the memory of data, so it must be copied before
	// a write. The memory of stable is never written to.
	shared bool
	sum    sum // of data, if summed is set
	summed bool
	// stableSum is the checksum of stable, if stableSummed is set. Most crashes leave most files as they were.
	stableSum    sum
	stableSummed bool
	unsynced     []change
	// failed means that a failed sync dropped data: clean pages of the cache may differ from the disk.
	failed bool

	names, stableNames map[string]int // of a directory
	unsyncedNames      []move
}

// change is a write of data at off, or a truncation of the file to off bytes.
type change struct {
	off  int64
	data []byte
	cut  bool
}

// move removes the name old and gives the name new to a node; either may be empty. A rename is one
// move, so after a crash it has happened or it has not.
type move struct {
	old, new string
	node     int
}

func newDisk() *disk {
	return &disk{nodes: map[int]*node{0: newDir()}, next: 1}
}

func newDir() *node {
	return &node{names: make(map[string]int), stableNames: make(map[string]int)}
}

func (n *node) isDir() bool { return n.names != nil }

func (d *disk) clone() *disk {
	c := &disk{nodes: make(map[int]*node, len(d.nodes)), next: d.next}
	for id, n := range d.nodes {
		n.shared = true
		m := *n
		m.unsynced, m.unsyncedNames = append([]change(nil), n.unsynced...), append([]move(nil), n.unsyncedNames...)
		m.names, m.stableNames = maps.Clone(n.names), maps.Clone(n.stableNames)
		c.nodes[id] = &m
	}
	return c
}

// apply changes the disk as an operation did. Operations that only read change nothing, nor do most
// failed ones.
func (d *disk) apply(op Op) {
	if op.Kind == Mark {
		return
	}
	d.last = nil
	n := d.nodes[op.node]
	switch op.Kind {
	case Create, MakeDir:
		if op.Err == nil {
			made := &node{}
			if op.Kind == MakeDir {
				made = newDir()
			}
			d.nodes[d.next] = made
			n.link(move{new: op.name, node: d.next})
			d.next++
		}
	case Write:
		n.write(change{off: op.Off, data: op.Data})
		if len(n.unsynced) > 0 {
			d.last = &n.unsynced[len(n.unsynced)-1]
		}
	case Truncate:
		if op.Err == nil {
			n.write(change{off: op.Off, cut: true})
		}
	case Remove:
		if op.Err == nil {
			n.link(move{old: op.name})
		}
	case Rename:
		if op.Err == nil {
			n.link(move{old: op.name, new: op.newName, node: n.names[op.name]})
		}
	case Link:
		if op.Err == nil {
			n.link(move{new: op.newName, node: n.names[op.name]})
		}
	case CreateUnnamed:
		if op.Err == nil {
			d.nodes[d.next] = &node{}
			d.next++
		}
	case LinkUnnamed:
		if op.Err == nil {
			n.link(move{new: op.name, node: op.newNode})
		}
	case Sync:
		n.sync(op.Err != nil, op.reverts)
	case SyncDir:
		if op.Err == nil {
			n.syncNames()
		}
	case Forget:
		n.forget()
	case SyncAll:
		for _, n := range d.nodes {
			if n.isDir() && op.Err == nil {
				n.syncNames()
			} else if !n.isDir() {
				n.sync(op.Err != nil, op.reverts)
			}
		}
	}
}

func (n *node) write(c change) {
	if n.shared {
		// The extra capacity is for a WAL, which grows with each write.
		n.data, n.shared = append(make([]byte, 0, len(n.data)+16*page), n.data...), false
	}
	n.data, n.summed = c.onto(n.data), false
	if n.failed && !c.cut {
		// The cache writes whole pages. So this write also writes dropped data of the same pages.
		from := c.off / page * page
		to := min((c.off+int64(len(c.data))+page-1)/page*page, int64(len(n.data)))
		c = change{off: from, data: bytes.Clone(n.data[from:to])}
	}
	n.unsynced = append(n.unsynced, c)
}

// onto returns the content b after the change.
func (c change) onto(b []byte) []byte {
	end := c.off + int64(len(c.data))
	if c.cut && int64(len(b)) > end {
		return b[:end]
	}
	if grow := end - int64(len(b)); grow > 0 {
		b = append(b, make([]byte, grow)...)
	}
	copy(b[c.off:], c.data)
	return b
}

// sync makes the data of a file durable. If it fails, the unsynced data will never be written, because
// the system marks it as clean. Whether programs still see it depends on the file system.
func (n *node) sync(fails, reverts bool) {
	switch {
	case len(n.unsynced) == 0:
	case !fails && !n.failed:
		n.stable, n.shared = n.data, true
		n.stableSum, n.stableSummed = n.sum, n.summed
	case !fails:
		n.stable, n.stableSummed = bytes.Clone(n.stable), false
		for _, c := range n.unsynced {
			n.stable = c.onto(n.stable)
		}
	default:
		n.failed = true
		if reverts {
			n.revert()
		}
	}
	n.unsynced = nil
}

// revert reads the file from disk again. Its length is kept, since that is metadata of the file
// system; parts that were never written are zeros.
func (n *node) revert() {
	data := make([]byte, len(n.data))
	copy(data, n.stable)
	n.data, n.shared, n.summed = data, false, false
}

// sum is a checksum of a content. It differs between processes.
type sum [2]uint64

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func sumOf(b []byte) sum { return sum{maphash.Bytes(seeds[0], b), maphash.Bytes(seeds[1], b)} }

// sums returns the checksums of the content that programs see now, and after Forget.
func (n *node) sums() (now, forgotten sum) {
	if !n.summed {
		n.sum, n.summed = sumOf(n.data), true
	}
	if !n.failed {
		return n.sum, n.sum
	}
	return n.sum, n.sumOfStable()
}

func (n *node) sumOfStable() sum {
	if !n.stableSummed {
		n.stableSum, n.stableSummed = sumOf(n.stable), true
	}
	return n.stableSum
}

// forget reads clean pages from disk again, and keeps unsynced changes.
func (n *node) forget() {
	if !n.failed {
		return
	}
	n.revert()
	for _, c := range n.unsynced {
		n.data = c.onto(n.data)
	}
	n.failed = false
}

func (n *node) link(m move) {
	m.onto(n.names)
	n.unsyncedNames = append(n.unsyncedNames, m)
}

func (m move) onto(names map[string]int) {
	if m.old != "" {
		delete(names, m.old)
	}
	if m.new != "" {
		names[m.new] = m.node
	}
}

func (n *node) syncNames() {
	n.stableNames, n.unsyncedNames = maps.Clone(n.names), nil
}

// Keep selects which unsynced changes a power cut keeps.
type Keep int

const (
	All  Keep = iota
	None      // no change
	Head      // the first sector of each write
	Some      // a random choice of pages, some of them torn
)

// Variant is one of the states in which a disk may be found after a stop at a certain moment.
type Variant struct {
	Name string
	// Data and Entries say what is kept of unsynced data of files, and of unsynced names in
	// directories.
	Data, Entries Keep
	// Torn, if positive, is how many bytes of the last write are kept.
	Torn int
	// Seed determines the choice of Some.
	Seed uint64
}

// Killed ends only the process. The cache is kept, with unsynced data and with data that a failed
// sync dropped.
var Killed = Variant{Name: "the process was killed"}

// Cuts lists the power cuts that are tried at every moment, in addition to torn writes and random
// ones.
var Cuts = []Variant{
	{Name: "all unsynced changes are kept"},
	{Name: "everything unsynced is lost", Data: None, Entries: None},
	{Name: "unsynced data is lost, but the names are kept", Data: None},
	{Name: "only the first sectors of unsynced data are kept", Data: Head},
	{Name: "unsynced names are lost", Entries: None},
}

// Chance returns a power cut with a random choice that the seed determines.
func Chance(seed uint64) Variant {
	return Variant{Name: "a random choice of unsynced changes is kept", Data: Some, Entries: Some, Seed: seed}
}

// torn returns the lengths at which the last write may be torn, which are the sector boundaries.
func (d *disk) torn() (lengths []int) {
	if d.last == nil || d.last.cut {
		return nil
	}
	for at := sector - int(d.last.off%sector); at < len(d.last.data); at += sector {
		lengths = append(lengths, at)
	}
	return lengths
}

// crash returns the disk as it is found after a stop at this moment. After a power cut, everything on
// it is durable.
func (d *disk) crash(v Variant) *disk {
	if v == Killed {
		return d.clone()
	}
	after := &disk{nodes: make(map[int]*node), next: d.next}
	chance := rand.New(rand.NewPCG(v.Seed, 1))
	// Nodes are visited in order of their numbers, so that a seed always leads to the same result. A
	// directory has a lower number than its entries.
	reached := map[int]bool{0: true}
	for id := range d.next {
		n := d.nodes[id]
		if n == nil || !reached[id] {
			continue
		}
		c := &node{}
		if n.isDir() {
			c.names = n.namesAfter(v, chance)
			c.stableNames = maps.Clone(c.names)
			for _, child := range c.names {
				reached[child] = true
			}
		} else {
			c.data = d.dataAfter(n, v, chance)
			c.stable, c.shared = c.data, true
			if len(n.unsynced) == 0 {
				c.sum, c.summed = n.sumOfStable(), true
				c.stableSum, c.stableSummed = c.sum, true
			}
		}
		after.nodes[id] = c
	}
	return after
}

func (n *node) namesAfter(v Variant, chance *rand.Rand) map[string]int {
	switch v.Entries {
	case All, Head:
		return maps.Clone(n.names)
	case None:
		return maps.Clone(n.stableNames)
	}
	names := maps.Clone(n.stableNames)
	for _, m := range n.unsyncedNames {
		if chance.IntN(2) == 0 {
			m.onto(names)
		}
	}
	return names
}

func (d *disk) dataAfter(n *node, v Variant, chance *rand.Rand) []byte {
	if len(n.unsynced) == 0 {
		return n.stable
	}
	b := bytes.Clone(n.stable)
	for i := range n.unsynced {
		c := n.unsynced[i]
		switch {
		case v.Torn > 0 && &n.unsynced[i] == d.last:
			c.data = c.data[:v.Torn]
		case v.Data == None:
			continue
		case v.Data == Head:
			c.data = c.data[:min(len(c.data), sector-int(c.off%sector))]
		case v.Data == Some:
			b = c.someOf(b, chance)
			continue
		}
		b = c.onto(b)
	}
	return b
}

// someOf applies a random choice of the pages of a change to b, each whole or up to a random sector.
func (c change) someOf(b []byte, chance *rand.Rand) []byte {
	if c.cut {
		if chance.IntN(2) == 0 {
			b = c.onto(b)
		}
		return b
	}
	for len(c.data) > 0 {
		n := min(len(c.data), page-int(c.off%page))
		part := change{off: c.off, data: c.data[:n]}
		switch chance.IntN(4) {
		case 0, 1:
			b = part.onto(b)
		case 2:
			if sectors := (n + sector - 1) / sector; sectors > 1 {
				part.data = part.data[:chance.IntN(sectors)*sector]
				b = part.onto(b)
			}
		}
		c.off, c.data = c.off+int64(n), c.data[n:]
	}
	return b
}
