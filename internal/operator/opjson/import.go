package opjson

import "dialtone/internal/account"

// Import is the report of an import.
type Import struct {
	Tenant   string         `json:"tenant"`
	Format   string         `json:"format"`
	DryRun   bool           `json:"dry_run"`
	Rows     int64          `json:"rows"`
	Imported int64          `json:"imported"`
	Refused  []ImportReason `json:"refused"`
	Notes    []ImportReason `json:"notes"`
	Realms   []ImportRealm  `json:"realms"`
}

// ImportReason is how many entries have a reason or a remark.
type ImportReason struct {
	Reason string        `json:"reason"`
	Text   string        `json:"text"`
	Count  int64         `json:"count"`
	First  []ImportEntry `json:"first"`
}

// ImportEntry is an entry of the file.
type ImportEntry struct {
	File string `json:"file,omitempty"`
	Line int64  `json:"line"`
	User string `json:"user"`
	Text string `json:"text,omitempty"`
}

// ImportRealm is how many entries have a realm that is not the tenant's.
type ImportRealm struct {
	Realm string `json:"realm"`
	Count int64  `json:"count"`
}

// OfImport returns the JSON form of a report.
func OfImport(r account.ImportReport, host, format string) Import {
	v := Import{
		Tenant: host, Format: format, DryRun: r.DryRun, Rows: r.Rows, Imported: r.Added,
		Refused: ofReasons(r.Refused), Notes: ofReasons(r.Notes), Realms: []ImportRealm{},
	}
	for _, realm := range r.Realms {
		v.Realms = append(v.Realms, ImportRealm(realm))
	}
	return v
}

func ofReasons(list []account.ImportCount) []ImportReason {
	out := []ImportReason{}
	for _, c := range list {
		r := ImportReason{Reason: string(c.Reason), Text: c.Text, Count: c.Count, First: []ImportEntry{}}
		for _, e := range c.First {
			r.First = append(r.First, ImportEntry{File: e.File, Line: e.Line, User: e.User, Text: e.Detail})
		}
		out = append(out, r)
	}
	return out
}
