package main

import (
	"fmt"
	"slices"
	"strings"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/tenant"
)

// reservedChanges are options that change the list of a tenant's reserved names without replacing it.
type reservedChanges struct {
	Add    textList `name:"reserve-add" placeholder:"NAME" help:"Add to the reserved names. Can be repeated."`
	Remove textList `name:"reserve-remove" placeholder:"NAME" help:"Remove from the reserved names. Can be repeated."`
}

// apply returns the list with the changes. It fails with fault.Invalid for a name that cannot be
// removed.
func (c reservedChanges) apply(list []string) ([]string, error) {
	list = slices.Clone(list)
	for _, name := range c.Remove {
		i := slices.Index(list, name)
		switch {
		case i >= 0:
			list = slices.Delete(list, i, i+1)
		case slices.Contains(account.BuiltInReserved(), name):
			return nil, fault.Field("reserve-remove", "%s is a built-in reserved name, which cannot be removed", name)
		default:
			return nil, fault.Field("reserve-remove",
				"%s is not a reserved name; see: dialtone tenant reserved", name)
		}
	}
	for _, name := range c.Add {
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list, nil
}

// printReplaced prints what an option that replaces a list has removed from it.
func (p *program) printReplaced(o tenantOptions, old, changed tenant.Settings) {
	const advice = "give all values that should stay"
	for _, list := range []struct {
		option       string
		given        *textList
		old, changed []string
		advice       string
	}{
		{"--reserve", o.Reserve, old.Reserved, changed.Reserved,
			"to change single names, use --reserve-add and --reserve-remove"},
		{"--origin", o.Origin, old.Origins, changed.Origins, advice},
		{"--turn-uri", o.TURNURI, old.TURNURIs, changed.TURNURIs, advice},
	} {
		if list.given == nil {
			continue
		}
		removed := slices.DeleteFunc(slices.Clone(list.old), func(value string) bool {
			return slices.Contains(list.changed, value)
		})
		switch {
		case len(removed) > 0 && len(*list.given) == 0:
			fmt.Fprintf(p.stderr, "%s= empties the list; removed: %s\n", list.option, strings.Join(removed, ", "))
		case len(removed) > 0:
			fmt.Fprintf(p.stderr, "%s replaces the list; removed: %s; %s\n",
				list.option, strings.Join(removed, ", "), list.advice)
		}
	}
}

type tenantReserved struct {
	Host string `arg:"" optional:"" help:"The host name (the only tenant)."`
	JSON bool   `name:"json" help:"Print one JSON array."`
}

// Help is what --help adds.
func (tenantReserved) Help() string {
	return "Nobody can sign up with one of these names. Most look-alikes are refused too, such as adm1n and " +
		"ad.min. Built-in names cannot be removed; a tenant's own are changed with: dialtone tenant set " +
		"--reserve-add and --reserve-remove."
}

// reservedView is the JSON form of a reserved name.
type reservedView struct {
	Name    string `json:"name"`
	BuiltIn bool   `json:"built_in"`
}

// Run prints a tenant's own names first.
func (c *tenantReserved) Run(p *program) error {
	return p.with(func(in *installation.Installation) error {
		t, err := tenantOrOnly(p.ctx, in, c.Host)
		if err != nil {
			return err
		}
		var views []reservedView
		for _, name := range slices.Sorted(slices.Values(t.Reserved)) {
			views = append(views, reservedView{name, false})
		}
		for _, name := range account.BuiltInReserved() {
			views = append(views, reservedView{name, true})
		}
		if c.JSON {
			return indented(p.stdout, views)
		}
		out := p.table()
		out.Row("NAME", "RESERVED BY")
		for _, v := range views {
			by := t.Host
			if v.BuiltIn {
				by = "built in"
			}
			out.Row(v.Name, by)
		}
		return out.Flush()
	})
}
