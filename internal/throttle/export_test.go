package throttle

import "encoding/binary"

// Len returns the number of buckets.
func (f *Failures) Len() int { return len(f.buckets) }

// Fill fills all places with buckets that are at their limit.
func (f *Failures) Fill() {
	var b Bucket
	for i := range f.size {
		binary.BigEndian.PutUint64(b[:], uint64(i)+1)
		for range f.rule.Limit {
			f.Add(b)
		}
	}
}

// Fill fills every count.
func (s *Signups) Fill() {
	s.byAddress.Fill()
	s.bySite.Fill()
}

// Fill fills every count.
func (p *Passwords) Fill() {
	p.byName.Fill()
	p.byAddress.Fill()
	p.bySite.Fill()
}
