package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"dialtone/cmd/dialtone/internal/finding"
	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/internal/captcha"
	"dialtone/internal/datadir"
	"dialtone/internal/http/ops"
	"dialtone/internal/mail/dkim"
	"dialtone/internal/mail/pickup"
	"dialtone/internal/shellword"
	"dialtone/internal/tenant"
)

// disks reports disks that are nearly full.
func (e *examination) disks(ctx context.Context) (list []finding.Finding) {
	for _, dir := range []string{e.Data, e.Mail.PickupDir} {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		err := ops.Disk(dir)(ctx)
		if err == nil || len(list) > 0 && sameDisk(e.Data, dir) {
			continue
		}
		level := finding.Warning
		if free, err := datadir.Free(dir); err == nil && free < 16<<20 {
			level = finding.Fault
		}
		list = append(list, finding.New(level, "disk", finding.AboutHealth, err.Error(),
			"free space or enlarge the file system; on a full disk nothing is saved, and people get an error"))
	}
	return list
}

// sameDisk reports whether two directories are on one file system.
func sameDisk(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && x.Sys().(*syscall.Stat_t).Dev == y.Sys().(*syscall.Stat_t).Dev
}

// oldMessage is the age of a message in the pickup directory after which nothing seems to collect it.
const oldMessage = 10 * time.Minute

// pickup reports messages that nothing collects.
func (e *examination) pickup(context.Context) []finding.Finding {
	one := func(level finding.Level, cause, next string) []finding.Finding {
		return []finding.Finding{finding.New(level, "mail", finding.AboutMail, cause, next)}
	}
	dir, err := pickup.Look(e.Mail.PickupDir)
	if errors.Is(err, fs.ErrNotExist) { // the server creates it
		text, next := pickupFault(e.Config)
		if text == "" {
			return nil
		}
		return one(finding.Fault, text, next)
	}
	if err != nil {
		return one(finding.Fault, err.Error(), "correct owner and mode of the directory, or mail.pickup_dir")
	}
	var list []finding.Finding
	if dir.Readable() {
		list = one(finding.Warning, fmt.Sprintf("every user of this machine can read the messages in %s, which "+
			"contain activation links", dir.Path()), "run: chmod o-rwx "+shellword.Path(dir.Path()))
		list[0] = finding.Change(dir.Path(), list[0])
	}
	files, oldest, err := dir.Load()
	switch {
	case err != nil:
		return append(list, one(finding.Fault, err.Error(), "correct owner and mode of the directory")...)
	case files == 0 || time.Since(oldest) < oldMessage:
		return list
	case e.Mail.Relay != "":
		return append(list, one(finding.Warning, fmt.Sprintf("%s in %s for the relay, the oldest since %s",
			waiting(files), dir.Path(), oldest.UTC().Format(time.RFC3339)),
			"read the relay's answers with: dialtone mail list")...)
	}
	return append(list, one(finding.Fault, fmt.Sprintf("nothing collects the messages in %s: %s, the oldest since %s",
		dir.Path(), waiting(files), oldest.UTC().Format(time.RFC3339)),
		"start the pickup agent of your mail server and look at its log, or set mail.relay")...)
}

func waiting(files int) string {
	if files == 1 {
		return "1 message waits"
	}
	return fmt.Sprintf("%d messages wait", files)
}

// relay reports a relay that cannot be used. It logs in and sends nothing.
func (e *examination) relay(ctx context.Context) []finding.Finding {
	if found := CheckRelay(ctx, e.Mail); !found.OK {
		return []finding.Finding{finding.New(finding.Fault, "relay", finding.AboutMail,
			fmt.Sprintf("the relay %s cannot be used: %s", e.Mail.Relay.Parts().Address, found.Says),
			"correct mail.relay and its password, or repair the relay; until then, messages wait")}
	}
	return nil
}

// sender reports faults of the DNS records of a tenant's sender.
func (e *examination) sender(ctx context.Context, in *installation.Installation,
	t tenant.Tenant) (list []finding.Finding) {
	found, err := CheckSender(ctx, e.Mail, &t, dkim.NewKeys(in.Store, in.Seal), e.DNS)
	for _, f := range found {
		if !f.OK {
			list = append(list, finding.New(finding.Warning, "sender", finding.AboutMail,
				fmt.Sprintf("messages of %s may be treated as spam (%s): %s", t.Host, f.What, f.Says),
				"see the records to add: dialtone mail doctor --tenant "+t.Host))
		}
	}
	return append(list, failed("sender", err)...)
}

// server requests a captcha question at the public URLs, and then /readyz of the server on this machine, which by then
// has noticed if the proxy between them is not trusted. in is nil if the store was not opened.
func (e *examination) server(ctx context.Context, in *installation.Installation) (list []finding.Finding) {
	var issuer *captcha.Issuer
	if in != nil {
		if ring, err := in.KeySources.Sign.Read(); err == nil {
			issuer = captcha.NewIssuer(ring, time.Now)
		}
	}
	if in != nil {
		var checks []finding.Check
		for _, t := range e.tenants {
			public := finding.Public{Tenant: t, Issuer: issuer, Roots: e.roots, DNS: e.DNS, Now: time.Now}
			checks = append(checks, finding.Check{Name: "public url", Do: public.Check})
		}
		list = finding.Run(ctx, publicTime, checks)
		select {
		case <-time.After(readyzCache):
		case <-ctx.Done():
		}
	}
	return append(list, e.readyz(ctx)...)
}

const (
	// publicTime limits the time of the requests to all public URLs.
	publicTime = 3 * time.Second
	// readyzCache is the greatest age of an answer of /readyz, which the server caches.
	readyzCache = 1100 * time.Millisecond
)

// readyz reports failed checks and warnings of the server on this machine.
func (e *examination) readyz(ctx context.Context) (list []finding.Finding) {
	if e.Ops.TLSClientCA != "" {
		return []finding.Finding{finding.New(finding.Note, "server", finding.AboutHealth,
			"the server was not asked, because it requires a client certificate (ops.tls_client_ca)",
			"run: dialtone health --client-cert FILE --client-key FILE")}
	}
	state, err := QueryReadiness(ctx, e.Config, "", "")
	if errors.Is(err, errNoAnswer) {
		return []finding.Finding{finding.New(finding.Warning, "server", finding.AboutStart,
			fmt.Sprintf("no server runs on this machine, or %v", err),
			"start it, and read the end of its log if it ends: systemctl start dialtone; journalctl -u dialtone")}
	}
	if err != nil {
		return []finding.Finding{finding.New(finding.Fault, "server", finding.AboutHealth, err.Error(),
			"correct ops.listen, or stop the other program or server")}
	}
	for _, c := range state.Checks {
		switch {
		case !c.OK:
			list = append(list, finding.New(finding.Fault, "server", finding.AboutHealth,
				fmt.Sprintf("the server is not ready (%s): %s", c.Name, c.Error), "see what the check means"))
		case strings.HasPrefix(c.Warning, ops.SilentProxy):
			list = append(list, finding.New(finding.Fault, "server", finding.AboutStart, c.Warning,
				"let the proxy set the header, as the examples in deploy/nginx and deploy/caddy do, or remove the "+
					"address from http.trusted_proxies if it is not that of a proxy"))
		case c.Warning != "" && c.Name == "proxy":
			list = append(list, finding.New(finding.Fault, "server", finding.AboutStart, c.Warning,
				"add the address to http.trusted_proxies, and restart the server"))
		case c.Warning != "":
			list = append(list, finding.New(finding.Warning, "server", finding.AboutHealth,
				fmt.Sprintf("the server warns (%s): %s", c.Name, c.Warning), "see what the check means"))
		}
	}
	return list
}
