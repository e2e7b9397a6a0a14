package account

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"dialtone/internal/fault"
)

// seenName is what an import remembers of an entry: a hash of the name, and a hash of its spelling with the
// password.
type seenName struct{ name, whole uint64 }

// Look records an entry for Plan.
func (im *Import) Look(e ImportEntry) {
	im.rows++
	if e.Problem == ImportUnreadable || e.Problem == ImportBadHash {
		if im.bad++; im.bad == 1 {
			im.firstBad = ImportEntry{File: e.File, Line: e.Line, Problem: e.Problem, Detail: e.Detail}
		}
	}
	im.realmNamed = im.realmNamed || e.Realm != ""
	item, why, _ := im.check(e)
	if why == ImportRealm {
		if _, known := im.realms[e.Realm]; known || len(im.realms) < importRealms {
			im.realms[e.Realm]++
		}
	} else if e.Problem == "" && !e.lacksRealm() {
		im.inRealm++
	}
	switch {
	case why != "":
	case e.lacksRealm():
		im.withoutRealm = append(im.withoutRealm, im.hash(item))
	default:
		im.names = append(im.names, im.hash(item))
	}
}

func (im *Import) hash(item importItem) seenName {
	whole := []byte(item.entry.User + "\x00")
	switch c := item.credential; {
	case !item.own:
	case item.onlySHA256:
		whole = append(whole, c.SHA256[:]...)
	default:
		whole = append(whole, c.HA1[:]...)
	}
	return seenName{maphash.String(im.seed, item.account.User), maphash.Bytes(im.seed, whole)}
}

// Rows returns how many entries Look saw.
func (im *Import) Rows() int64 { return im.rows }

// Plan is called between Look and Add. It fails with fault.Invalid if there are entries and
// none can be read, since the file probably has another format. It fails with fault.Conflict if
// entries have realms and none has the tenant's, unless there are plain passwords without a
// realm.
func (im *Import) Plan() error {
	if im.rows > 0 && im.bad == im.rows {
		return im.noneReadable()
	}
	if !im.realmNamed {
		im.names = append(im.names, im.withoutRealm...)
	}
	slices.SortFunc(im.names, func(a, b seenName) int { return cmp.Compare(a.name, b.name) })
	for i := 1; i < len(im.names); i++ {
		a, b := im.names[i-1], im.names[i]
		if a.name == b.name {
			if a.whole != b.whole {
				im.ambiguous[a.name] = struct{}{}
			}
			im.repeated[a.name] = false
		}
	}
	im.names, im.withoutRealm = nil, nil
	var others int64
	for realm, n := range im.realms {
		im.report.Realms = append(im.report.Realms, ImportRealmCount{shown(realm), n})
		others += n
	}
	slices.SortFunc(im.report.Realms, func(a, b ImportRealmCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Realm, b.Realm))
	})
	if others == 0 || im.inRealm > 0 {
		return nil
	}
	first := im.report.Realms[0].Realm
	flag := "--realm '" + first + "'"
	if strings.ContainsAny(first, "'\\") { // the file is not trusted, and people paste commands
		flag = "--realm, with that of the file"
	}
	return fault.New(fault.Conflict, "nothing was imported: no entry has the realm %s of the tenant; "+
		"HA1 contains the realm, so set the one of the file while the tenant has no accounts: "+
		"dialtone tenant set %s %s", im.tenant.Realm, im.tenant.Host, flag)
}

// noneReadable returns the error for a file in which no entry can be read.
func (im *Import) noneReadable() error {
	which := "the only row cannot"
	if im.rows > 1 {
		which = fmt.Sprintf("none of %d rows can", im.rows)
	}
	first := im.firstBad
	where := fmt.Sprintf("line %d", first.Line)
	if first.File != "" {
		where = shown(first.File) + ", " + where
	}
	return fault.New(fault.Invalid,
		"nothing was imported: %s be read (%s: %s); does the file have a format other than %s?", which,
		where, cmp.Or(first.Detail, first.Problem.text()), im.options.Format)
}
