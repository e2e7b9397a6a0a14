package crashfs

import (
	"bytes"
	"hash/maphash"
	"maps"
	"math/rand/v2"
)

const (
	page   = 4096 // what the system's cache writes at once
	sector = 512  // what a disk writes at once
)

// disk is everything there is: what programs see, and how much of it would be found after a power
// cut. It changes by apply alone, so that a journal of operations gives the same disk again. Node 0
// is the root directory.
type disk struct {
	nodes map[int]*node
	next  int
	// last is the write that was applied last, if nothing came after it: the one that a power cut
	// may tear.
	last *change
}

// node is a file or a directory.
type node struct {
	data, stable []byte // of a file: as programs see it, and as the disk has it
	// shared says that the memory of data is also that of stable or of another disk: it is copied
	// before it is written to. The memory of stable is never written to.
	shared   bool
	sum      sum // of data, where summed is set
	summed   bool
	unsynced []change
	// failed says that a sync dropped data: what is in the cache is then marked clean and not what
	// is on the disk.
	failed bool

	names, stableNames map[string]int // of a directory
	unsyncedNames      []move
}

// change is a write of data at off, or a cut of the file to off bytes.
type change struct {
	off  int64
	data []byte
	cut  bool
}

// move takes the name old away and gives the name new to a node; either may be empty. A rename is
// one move: after a crash it happened or it did not.
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

// apply does what an operation did, which is nothing for those that only read and for most that
// failed.
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
		// With room to grow: a WAL is written to in pieces.
		n.data, n.shared = append(make([]byte, 0, len(n.data)+16*page), n.data...), false
	}
	n.data, n.summed = c.onto(n.data), false
	if n.failed && !c.cut {
		// The cache writes whole pages, and so with this write also what a sync dropped beside it.
		from := c.off / page * page
		to := min((c.off+int64(len(c.data))+page-1)/page*page, int64(len(n.data)))
		c = change{off: from, data: bytes.Clone(n.data[from:to])}
	}
	n.unsynced = append(n.unsynced, c)
}

// onto gives the content after the change.
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

// sync makes a file's data durable. Where it fails, nothing more will ever be written of what was
// unsynced: the system takes it for clean. Whether programs still see it depends on the file
// system.
func (n *node) sync(fails, reverts bool) {
	switch {
	case len(n.unsynced) == 0:
	case !fails && !n.failed:
		n.stable, n.shared = n.data, true
	case !fails:
		n.stable = bytes.Clone(n.stable)
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

// revert reads the file from the disk again. The length is the file system's and stays; what was
// never written is zeros.
func (n *node) revert() {
	data := make([]byte, len(n.data))
	copy(data, n.stable)
	n.data, n.shared, n.summed = data, false, false
}

// sum tells contents apart. It is not the same in another process.
type sum [2]uint64

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func sumOf(b []byte) sum { return sum{maphash.Bytes(seeds[0], b), maphash.Bytes(seeds[1], b)} }

// sums are of everything that a program may see of a file: now, and after Forget.
func (n *node) sums() (now, forgotten sum) {
	if !n.summed {
		n.sum, n.summed = sumOf(n.data), true
	}
	if !n.failed {
		return n.sum, n.sum
	}
	return n.sum, sumOf(n.stable)
}

// forget reads clean pages from the disk again, and keeps what is still to be written.
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

// Keep says which unsynced changes a power cut leaves.
type Keep int

const (
	All  Keep = iota
	None      // not one
	Head      // of each write the first sector
	Some      // any, in any order, each page for itself and some of them torn
)

// Variant is one state that a machine may be found in after it stopped at a certain moment.
type Variant struct {
	Name string
	// Data and Entries say what is left of unsynced data of files and of unsynced names in
	// directories.
	Data, Entries Keep
	// Torn, where it is above zero, is how much is left of the very last write.
	Torn int
	// Seed decides for Some.
	Seed uint64
}

// Killed is the end of the process alone: the system goes on, and so does its cache, with what is
// not on the disk yet and with what a failed sync dropped.
var Killed = Variant{Name: "the process was killed"}

// Cuts are the power cuts that every moment has, besides those that tear a write and those by
// chance.
var Cuts = []Variant{
	{Name: "everything is there that was still to be written"},
	{Name: "everything unsynced is lost", Data: None, Entries: None},
	{Name: "unsynced data is lost and the names are there", Data: None},
	{Name: "of unsynced data the first sectors are left", Data: Head},
	{Name: "unsynced names are lost", Entries: None},
}

// Chance is a power cut that leaves what the seed says.
func Chance(seed uint64) Variant {
	return Variant{Name: "what is left is left to chance", Data: Some, Entries: Some, Seed: seed}
}

// torn are the lengths at which the last write may have been torn: at every sector of the disk.
func (d *disk) torn() (lengths []int) {
	if d.last == nil || d.last.cut {
		return nil
	}
	for at := sector - int(d.last.off%sector); at < len(d.last.data); at += sector {
		lengths = append(lengths, at)
	}
	return lengths
}

// crash is the disk as it is found after a stop at this moment. After a power cut all on it is
// durable.
func (d *disk) crash(v Variant) *disk {
	if v == Killed {
		return d.clone()
	}
	after := &disk{nodes: make(map[int]*node), next: d.next}
	chance := rand.New(rand.NewPCG(v.Seed, 1))
	// In the order of numbers, since the same seed must leave the same. A directory comes before
	// what is in it.
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

// someOf puts any of a change's pages onto b, whole or up to any sector.
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
