// Package maildns checks the DNS records that receivers of a tenant's messages check (SPF,
// DKIM, DMARC), and suggests records to add.
//
// It knows the tenant's keys and the name of the relay, but not the addresses that the relay
// sends from. So it can check that there is exactly one SPF record and that it does not permit
// everybody, but not whether the record permits the relay.
package maildns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// Resolver looks up TXT records. A *net.Resolver is a Resolver.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// Key is a DKIM key: its selector and the TXT record that the DNS should have.
type Key struct{ Selector, Record string }

// Finding is the result of one check.
type Finding struct {
	What string `json:"what"` // relay, spf, dkim SELECTOR or dmarc
	OK   bool   `json:"ok"`
	Says string `json:"says"`
	// Name and Add are the name and the text of a TXT record to add, or empty.
	Name string `json:"name"`
	Add  string `json:"add"`
}

// ZoneLine returns a TXT record as a line of a zone file. A string in it has at most 255 bytes
// (RFC 1035 section 3.3.14).
func ZoneLine(name, text string) string {
	var parts []string
	for part := range slices.Chunk([]byte(text), 255) {
		parts = append(parts, `"`+string(part)+`"`)
	}
	return fmt.Sprintf("%s. IN TXT %s", name, strings.Join(parts, " "))
}

// Check checks the records of a sender's domain. relay is the relay's host name, or empty; it
// is used in a suggested SPF record.
func Check(ctx context.Context, dns Resolver, domain, relay string, keys []Key) []Finding {
	d := checker{ctx, dns, domain}
	list := []Finding{d.spf(relay)}
	for _, k := range keys {
		list = append(list, d.dkim(k))
	}
	if len(keys) == 0 {
		list = append(list, Finding{What: "dkim", Says: "Dialtone does not sign messages; " +
			"create a key with dialtone mail dkim add, unless the relay signs them"})
	}
	return append(list, d.dmarc())
}

type checker struct {
	ctx    context.Context
	dns    Resolver
	domain string
}

// records returns the TXT records of a name that begin with a version tag. It returns none if the
// name does not exist.
func (d checker) records(name, tag string) (list []string, err error) {
	all, err := d.lookup(name)
	for _, text := range all {
		version, _, _ := strings.Cut(strings.ToLower(text), " ")
		if strings.HasPrefix(version+";", tag+";") {
			list = append(list, text)
		}
	}
	return list, err
}

// lookup returns the TXT records of a name, or none if the name does not exist.
func (d checker) lookup(name string) ([]string, error) {
	list, err := d.dns.LookupTXT(d.ctx, name)
	if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
		return nil, nil
	}
	return list, err
}

// spf checks that there is exactly one SPF record (RFC 7208 section 4.5), and that it does not
// allow everybody.
func (d checker) spf(relay string) Finding {
	f := Finding{What: "spf"}
	list, err := d.records(d.domain, "v=spf1")
	switch {
	case err != nil:
		f.Says = lookupFailed(d.domain, err)
	case len(list) == 0:
		f.Says = d.domain + " has no SPF record, which says which servers may send for it"
		f.Name, f.Add = d.domain, "v=spf1 mx -all"
		if ip := net.ParseIP(relay); relay == "localhost" || ip.IsLoopback() {
			f.Add = "v=spf1 a mx -all" // a mail server on the machine that the domain leads to
		} else if relay != "" && ip == nil {
			f.Add = "v=spf1 mx a:" + relay + " -all"
			f.Says += "; if the relay belongs to a provider, replace a:" + relay +
				" by the include: from its documentation"
		}
	case len(list) > 1:
		f.Says = fmt.Sprintf("there are %d SPF records, which counts as an error; "+
			"merge them into one: %q", len(list), list)
	case allowsEverybody(list[0]):
		f.Says = fmt.Sprintf("%q allows everybody to send for %s; end it with -all or ~all",
			list[0], d.domain)
	default:
		f.OK = true
		f.Says = fmt.Sprintf("%q; ask the operator of the relay whether it covers the addresses "+
			"that the relay sends from", list[0])
	}
	return f
}

// allowsEverybody reports whether a record has a term that allows every server (RFC 7208 section
// 5.1).
func allowsEverybody(record string) bool {
	for _, term := range strings.Fields(strings.ToLower(record)) {
		if term == "all" || term == "+all" {
			return true
		}
	}
	return false
}

// dkim checks that the DNS contains a key.
func (d checker) dkim(k Key) Finding {
	name := k.Selector + "._domainkey." + d.domain
	f := Finding{What: "dkim " + k.Selector, Name: name, Add: k.Record}
	all, err := d.lookup(name)
	switch {
	case err != nil:
		f.Says = lookupFailed(name, err)
	case len(all) == 0:
		f.Says = "the public key is not in the DNS"
	case len(all) > 1:
		f.Says = fmt.Sprintf("there are %d records, but only one is allowed", len(all))
	case tags(all[0])["p"] != tags(k.Record)["p"]:
		f.Says = "the key in the DNS is not the one that messages are signed with"
	case algorithm(all[0]) != algorithm(k.Record):
		f.Says = "the record in the DNS names a different algorithm"
	default:
		f.OK, f.Name, f.Add = true, "", ""
		f.Says = "the DNS has the key that messages are signed with"
	}
	return f
}

func algorithm(record string) string {
	if k, ok := tags(record)["k"]; ok {
		return k
	}
	return "rsa" // RFC 6376 section 3.6.1
}

// dmarc checks that the domain has a DMARC policy (RFC 7489 section 6.6.3). If it has no record,
// the record of a parent domain applies.
func (d checker) dmarc() Finding {
	f := Finding{What: "dmarc"}
	var list []string
	var err error
	at := d.domain
	for {
		list, err = d.records("_dmarc."+at, "v=dmarc1")
		_, parent, ok := strings.Cut(at, ".")
		if err != nil || len(list) > 0 || !ok || !strings.Contains(parent, ".") {
			break
		}
		at = parent
	}
	switch {
	case err != nil:
		f.Says = lookupFailed("_dmarc."+at, err)
	case len(list) == 0:
		f.Says = "there is no policy for messages that fail SPF and DKIM"
		f.Name, f.Add = "_dmarc."+d.domain, "v=DMARC1; p=none"
	case len(list) > 1:
		f.Says = fmt.Sprintf("there are %d records at _dmarc.%s, and receivers ignore them all",
			len(list), at)
	default:
		policy := strings.ToLower(tags(list[0])["p"])
		f.OK = slices.Contains([]string{"none", "quarantine", "reject"}, policy)
		f.Says = fmt.Sprintf("%q at _dmarc.%s", list[0], at)
		if !f.OK {
			f.Says += " has no policy; add p=none, p=quarantine or p=reject"
		}
	}
	return f
}

func lookupFailed(name string, err error) string {
	return fmt.Sprintf("the DNS look-up of %s failed: %v", name, err)
}

// tags returns the tags of a record (RFC 6376 section 3.2).
func tags(record string) map[string]string {
	list := make(map[string]string)
	for part := range strings.SplitSeq(record, ";") {
		name, value, _ := strings.Cut(part, "=")
		list[strings.ToLower(strings.TrimSpace(name))] = strings.Join(strings.Fields(value), "")
	}
	return list
}
