package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/config"
	"dialtone/internal/datadir"
	"dialtone/internal/doctor"
	"dialtone/internal/export"
	"dialtone/internal/fault"
	"dialtone/internal/http/ops"
	"dialtone/internal/mail/dkim"
	"dialtone/internal/mail/pickup"
	"dialtone/internal/operator"
	"dialtone/internal/regularfile"
	"dialtone/internal/shellword"
	"dialtone/internal/stats"
	"dialtone/internal/tenant"
)

// The times that the command may take: for the configuration and the store, and then for all checks together.
const (
	filesTime = time.Second
	openTime  = 3500 * time.Millisecond
	checkTime = 5 * time.Second
)

type doctorCommand struct {
	Resolver string `placeholder:"HOST:PORT" help:"DNS server to ask, such as the domain's own (the system's)."`
	CAFile   string `name:"ca-file" placeholder:"FILE" help:"More authorities for public URLs (the system's)."`
	JSON     bool   `name:"json" help:"Print one JSON array."`
}

// Help is what "dialtone doctor --help" adds.
func (doctorCommand) Help() string {
	return "It looks at the configuration, files and their owners, the disk, the keys, the store, the relay, the " +
		"DNS, the public URLs and the running server, if there is one, in less than ten seconds. It changes nothing " +
		"and sends no message. Run it as root, or as the user of the server, with the configuration of the server. " +
		"Exit status: 1 if there is a fault, otherwise 0."
}

func (c *doctorCommand) Run(p *program) error {
	list := c.examine(p)
	if c.JSON {
		if err := json.NewEncoder(p.stdout).Encode(list); err != nil {
			return err
		}
	} else {
		c.print(p, list)
	}
	faults := 0
	for _, f := range list {
		if f.Level == doctor.Fault {
			faults++
		}
	}
	if faults > 0 {
		return fault.New(fault.Conflict, "%s found; see FAULT above", terminal.Counted(faults, "fault"))
	}
	return nil
}

func (c *doctorCommand) print(p *program, list []doctor.Finding) {
	marks := map[doctor.Level]string{doctor.Fault: "FAULT  ", doctor.Warning: "warning", doctor.Note: "note   "}
	for _, level := range []doctor.Level{doctor.Fault, doctor.Warning, doctor.Note} {
		for _, f := range list {
			if f.Level != level {
				continue
			}
			fmt.Fprintf(terminal.To(p.stdout), "%s %s: %s.\n", marks[level], f.Check, terminal.OneLine(f.Cause))
			fmt.Fprintf(terminal.To(p.stdout), "        %s (%s).\n", terminal.OneLine(f.Next), f.See)
		}
	}
	if len(list) == 0 {
		fmt.Fprintln(p.stdout, "no faults found")
	}
}

// examine returns all findings. Without a configuration there is nothing else to look at.
func (c *doctorCommand) examine(p *program) []doctor.Finding {
	conf, err := p.settings()
	if faults, ok := errors.AsType[config.Faults](err); ok {
		list := []doctor.Finding{}
		for _, f := range faults {
			list = append(list, doctor.New(doctor.Fault, "configuration", doctor.AboutStart, f.String(),
				"correct it; until then, no server starts, and nothing else can be checked"))
		}
		return list
	} else if err != nil {
		return []doctor.Finding{doctor.New(doctor.Fault, "configuration", doctor.AboutStart, err.Error(),
			"correct it; until then, no server starts")}
	}
	var roots *x509.CertPool
	if c.CAFile != "" {
		extra, err := regularfile.Read(c.CAFile)
		if roots, _ = x509.SystemCertPool(); roots == nil {
			roots = x509.NewCertPool()
		}
		if err != nil || !roots.AppendCertsFromPEM(extra) {
			return []doctor.Finding{doctor.New(doctor.Fault, "configuration", doctor.AboutDoctor,
				c.CAFile+" has no certificate in PEM", "give another --ca-file")}
		}
	}
	e := &examination{
		Config: conf, program: p, dns: resolver(c.Resolver), roots: roots, opened: make(chan *installation.Installation,
			1),
	}
	first := []doctor.Check{
		{Name: "configuration", Do: e.configuration},
		{Name: "files", Do: func(ctx context.Context) []doctor.Finding {
			return append(e.files().Check(ctx), e.databaseFiles()...)
		}},
	}
	var list []doctor.Finding
	if o, _ := runas.OwnerOf(e.Data); o != nil {
		// They need root, and the store changes the user of the process.
		list, first = doctor.Run(p.ctx, filesTime, first), nil
	}
	list = append(list, doctor.Run(p.ctx, openTime, append(first, doctor.Check{Name: "store", Do: e.open}))...)
	var in *installation.Installation
	select {
	case in = <-e.opened:
		defer in.Close() // nothing was written
	default: // it cannot be opened, or hangs
	}
	return append(list, doctor.Run(p.ctx, checkTime, e.checks(in))...)
}

// examination is what the checks look at.
type examination struct {
	config.Config
	program *program
	dns     *net.Resolver
	roots   *x509.CertPool
	opened  chan *installation.Installation // the result of open, if there is one
	tenants []tenant.Tenant                 // with their public URLs; set before opened is sent
	newer   bool                            // a newer program has changed the schema of the store
}

// checks returns the checks that follow the opening of the store. in is nil if it was not opened.
func (e *examination) checks(in *installation.Installation) []doctor.Check {
	list := []doctor.Check{{Name: "disk", Do: e.disks}, {Name: "mail", Do: e.pickup}, {Name: "relay", Do: e.relay}}
	if in == nil {
		return append(list, doctor.Check{Name: "server", Do: func(ctx context.Context) []doctor.Finding {
			return e.server(ctx, nil)
		}})
	}
	add := func(name string, do func(context.Context, *installation.Installation) []doctor.Finding) {
		list = append(list, doctor.Check{Name: name, Do: func(ctx context.Context) []doctor.Finding {
			return do(ctx, in)
		}})
	}
	add("store", e.schema)
	add("keys", e.keys)
	add("clock", e.clock)
	add("hooks", e.hooks)
	add("export", e.export)
	add("export", e.htdigest)
	add("versions", e.versions)
	add("signups", e.signups)
	add("certificates", e.certificates)
	for _, t := range e.tenants {
		if tenant.Loopback(t.Host) {
			continue
		}
		list = append(list, doctor.Check{Name: "dns", Do: func(ctx context.Context) []doctor.Finding {
			return doctor.Address(ctx, e.dns, t.Host)
		}})
		add("sender", func(ctx context.Context, in *installation.Installation) []doctor.Finding {
			return e.sender(ctx, in, t)
		})
	}
	add("server", e.server)
	return list
}

// failed is a finding about a check that could not be made.
func failed(check string, err error) []doctor.Finding {
	if err == nil {
		return nil
	}
	return []doctor.Finding{doctor.New(doctor.Fault, check, doctor.AboutDoctor, "this cannot be checked: "+err.Error(),
		"repair what the error says, and run this command again")}
}

// configuration reports what "config check" does besides the settings themselves.
func (e *examination) configuration(context.Context) (list []doctor.Finding) {
	if _, err := installation.Templates(e.Mail.TemplatesDir); err != nil {
		list = append(list, doctor.New(doctor.Fault, "configuration", doctor.AboutMail, err.Error(),
			"correct the templates, or remove mail.templates_dir; until then, no server starts"))
	}
	if e.Ops.Remote() {
		const next = "let ops.listen be a loopback address or one of an internal network, and block it in the firewall"
		switch {
		case e.Ops.TLSCert == "":
			list = append(list, doctor.New(doctor.Warning, "configuration", doctor.AboutHealth,
				"other machines can reach the operators' listener at "+e.Ops.Listen+
					", and nothing there is encrypted, not even password hashes",
				next+", or set ops.tls_cert and ops.tls_key"))
		case e.Ops.TLSClientCA == "":
			list = append(list, doctor.New(doctor.Note, "configuration", doctor.AboutHealth,
				"other machines can reach the operators' listener at "+e.Ops.Listen, next+", or set ops.tls_client_ca"))
		}
	}
	return list
}

// files returns what has to have certain owners and modes.
func (e *examination) files() doctor.Files {
	dir, keys := datadir.Dir(e.Data), installation.KeySources(e.Keys)
	own := []string{
		dir.NodeFile(), string(dir.TrailFile()), filepath.Join(e.Data, "serve.lock"), e.Keys.Dir, e.Mail.PickupDir,
		filepath.Join(filepath.Dir(e.Mail.PickupDir), "badmail"),
	}
	if e.Database == "" {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			own = append(own, dir.Database()+suffix)
		}
	}
	f := doctor.Files{
		Data: e.Data, Own: own, Read: map[string]string{}, Private: secretFiles(e.Config, e.program.environ),
	}
	f.NoLinks = []string{filepath.Join(e.Data, "directory")}
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		f.NoLinks = append(f.NoLinks, filepath.Join(e.Data, "directory", "directory.db"+suffix))
	}
	if e.program.hasPassword(e.Config) {
		f.Private[e.program.configFile()] = "the password of the database"
	}
	f.Secret = []string{keys.Seal.Path, keys.Sign.Path, keys.TURN.Path}
	read := func(name, path string) {
		if path != "" {
			f.Read[name] = path
		}
	}
	if file := e.program.configFile(); file != "" {
		read("the configuration", file)
	}
	read("mail.templates_dir", e.Mail.TemplatesDir)
	read("mail.relay_password_file", e.Mail.RelayPasswordFile)
	read("mail.relay_ca_file", e.Mail.RelayCAFile)
	read("http.security_txt", e.HTTP.SecurityTxt)
	read("trace.header_file", e.Trace.HeaderFile)
	read("ops.tls_cert", e.Ops.TLSCert)
	read("ops.tls_key", e.Ops.TLSKey)
	read("ops.tls_client_ca", e.Ops.TLSClientCA)
	read("tls.acme_ca_file", e.TLS.CAFile)
	for i := range e.TLS.Cert {
		read(fmt.Sprintf("tls.cert, number %d", i+1), string(e.TLS.Cert[i]))
		read(fmt.Sprintf("tls.key, number %d", i+1), string(e.TLS.Key[i]))
	}
	return f
}

func (e *examination) keys(ctx context.Context, in *installation.Installation) (list []doctor.Finding) {
	err := missingKeys(ctx, in, func(text string) {
		list = append(list, doctor.New(doctor.Fault, "keys", doctor.AboutKeys, text, "restore the file from a backup"))
	})
	if err != nil {
		list = append(list, doctor.New(doctor.Fault, "keys", doctor.AboutKeys, err.Error(),
			"correct owner and mode, or restore the file from a backup"))
	}
	return list
}

func (e *examination) clock(ctx context.Context, in *installation.Installation) []doctor.Finding {
	before := time.Now()
	theirs, err := in.Store.Clock(ctx)
	if err != nil || theirs.IsZero() {
		return failed("clock", err)
	}
	if err := ops.Clock(before, theirs, time.Now()); err != nil {
		return []doctor.Finding{doctor.New(doctor.Warning, "clock", doctor.AboutClock, err.Error(),
			"synchronize the clocks of this machine and of the database's (timedatectl)")}
	}
	return nil
}

func (e *examination) hooks(ctx context.Context, in *installation.Installation) (list []doctor.Finding) {
	hooks, err := in.Store.Hooks(ctx)
	for _, h := range hooks {
		state := operator.HookBacklog{Name: h.Name, Oldest: h.Oldest, Waiting: stats.Bounded(h.Waiting)}
		why := ops.Hooks([]operator.HookBacklog{state}, time.Now())
		if why == nil {
			continue
		}
		text := why.Error()
		if h.LastError != "" {
			text += "; the last error: " + h.LastError
		}
		list = append(list, doctor.New(doctor.Warning, "hooks", doctor.AboutPhones, text,
			"repair the receiver, and try it with: dialtone directory hook test "+h.Name))
	}
	return append(list, failed("hooks", err)...)
}

// export reports phone servers that do not get all accounts, or cannot read the tables.
func (e *examination) export(ctx context.Context, in *installation.Installation) (list []doctor.Finding) {
	// The status brings the file of SQLite up to date first, which can undo what somebody has changed.
	err := in.Store.CheckExportSchema(ctx, func(text string) {
		list = append(list, doctor.New(doctor.Fault, "export", doctor.AboutPhones, "exported tables: "+text,
			"find out who changed them, undo it, and run: dialtone verify"))
	})
	if err != nil {
		return append(list, failed("export", err)...)
	}
	status, err := in.Store.ExportStatus(ctx)
	if err != nil || !status.Enabled {
		return append(list, failed("export", err)...)
	}
	add := func(cause, next string) {
		list = append(list, doctor.New(doctor.Fault, "export", doctor.AboutPhones, cause, next))
	}
	switch {
	case len(status.Missing) > 0:
		add(export.DescribeMissing(status.Missing), "see: dialtone directory export status")
	case !status.Complete:
		add("the exported tables are incomplete", "complete them with: dialtone directory export rebuild")
	}
	if in.Shared() {
		return list
	}
	private := make(map[string]string)
	for _, suffix := range []string{"", "-wal"} {
		private[status.Locations[0]+suffix] = "password hashes for phone servers"
	}
	list = append(list, doctor.Private("export", private)...)
	readers, err := readersOf(status.Locations[0])
	for _, f := range readers.reasons {
		add("a phone server in the group "+readers.Group+" cannot read the exported tables: "+f.Cause, f.Next)
	}
	return append(list, failed("export", err)...)
}

// htdigest reports htdigest files that every user can read. The audit trail says where they were written.
func (e *examination) htdigest(ctx context.Context, in *installation.Installation) []doctor.Finding {
	const newest = 100
	page, err := in.Store.ChangePage(ctx, audit.Filter{Action: string(audit.ExportFile), Newest: true}, "", newest)
	private := make(map[string]string)
	for _, c := range page.Changes {
		if filepath.IsAbs(c.Subject) {
			private[filepath.Clean(c.Subject)] = "password hashes for web servers"
		}
	}
	return append(doctor.Private("export", private), failed("export", err)...)
}

// versions reports servers of several versions on one database.
func (e *examination) versions(ctx context.Context, in *installation.Installation) []doctor.Finding {
	list, err := in.Store.Programs(ctx)
	if err != nil {
		return failed("versions", err)
	}
	if len(list) < 2 {
		return nil
	}
	return []doctor.Finding{doctor.New(doctor.Warning, "versions", doctor.AboutNodes,
		"programs of several versions use the database: "+strings.Join(list, ", "),
		"finish the upgrade of all servers, and run this command in the same version")}
}

// signups reports signups that somebody may have forgotten to open again.
func (e *examination) signups(ctx context.Context, in *installation.Installation) []doctor.Finding {
	freeze, err := in.Store.Freeze(ctx)
	if err != nil {
		return failed("signups", err)
	}
	if freeze != nil {
		return []doctor.Finding{doctor.New(doctor.Note, "signups", doctor.AboutSignups,
			"the signups of all tenants are frozen, so nobody can sign up",
			"if that is not intended any more, run: dialtone signups open --freeze")}
	}
	var closed []string
	for _, t := range e.tenants {
		if _, is := t.Closed(); is {
			closed = append(closed, t.Host)
		}
	}
	if closed == nil {
		return nil
	}
	return []doctor.Finding{doctor.New(doctor.Note, "signups", doctor.AboutSignups,
		"nobody can sign up at "+strings.Join(closed, ", "),
		"if that is not intended any more, run: dialtone signups open --tenant HOST")}
}

// certificates reports certificates in files that are wrong or expire. Those of ACME are in what the server says.
func (e *examination) certificates(context.Context, *installation.Installation) (list []doctor.Finding) {
	var hosts []string
	for _, t := range e.tenants {
		if !tenant.Loopback(t.Host) {
			hosts = append(hosts, t.Host)
		}
	}
	for _, text := range certificateFaults(e.Config, hosts) {
		list = append(list, doctor.New(doctor.Fault, "certificates", doctor.AboutCertificates, text,
			"put valid files in place; a running server reads them within seconds"))
	}
	return list
}

// disks reports disks that are nearly full.
func (e *examination) disks(ctx context.Context) (list []doctor.Finding) {
	for _, dir := range []string{e.Data, e.Mail.PickupDir} {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		err := ops.Disk(dir)(ctx)
		if err == nil || len(list) > 0 && sameDisk(e.Data, dir) {
			continue
		}
		level := doctor.Warning
		if free, err := datadir.Free(dir); err == nil && free < 16<<20 {
			level = doctor.Fault
		}
		list = append(list, doctor.New(level, "disk", doctor.AboutHealth, err.Error(),
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

// oldMessage is the age from which on a message in the pickup directory was forgotten.
const oldMessage = 10 * time.Minute

// pickup reports messages that nothing collects.
func (e *examination) pickup(context.Context) []doctor.Finding {
	one := func(level doctor.Level, cause, next string) []doctor.Finding {
		return []doctor.Finding{doctor.New(level, "mail", doctor.AboutMail, cause, next)}
	}
	dir, err := pickup.Look(e.Mail.PickupDir)
	if errors.Is(err, fs.ErrNotExist) { // the server makes it
		text, next := e.program.pickupFault(e.Config)
		if text == "" {
			return nil
		}
		return one(doctor.Fault, text, next)
	} else if err != nil {
		return one(doctor.Fault, err.Error(), "correct owner and mode of the directory, or mail.pickup_dir")
	}
	var list []doctor.Finding
	if dir.Readable() {
		list = one(doctor.Warning, fmt.Sprintf("every user of this machine can read the messages in %s, which have "+
			"activation links", dir.Path()), "run: chmod o-rwx "+shellword.Path(dir.Path()))
		list[0] = doctor.Change(dir.Path(), list[0])
	}
	files, oldest, err := dir.Load()
	switch {
	case err != nil:
		return append(list, one(doctor.Fault, err.Error(), "correct owner and mode of the directory")...)
	case files == 0 || time.Since(oldest) < oldMessage:
		return list
	case e.Mail.Relay != "":
		return append(list, one(doctor.Warning, fmt.Sprintf("%s in %s for the relay, the oldest since %s",
			waiting(files), dir.Path(), oldest.UTC().Format(time.RFC3339)),
			"read the relay's answers with: dialtone mail list")...)
	}
	return append(list, one(doctor.Fault, fmt.Sprintf("nothing collects the messages in %s: %s, the oldest since %s",
		dir.Path(), waiting(files), oldest.UTC().Format(time.RFC3339)),
		"start the pickup agent of your mail server and look at its log, or set mail.relay")...)
}

func waiting(files int) string {
	if files == 1 {
		return "1 message waits"
	}
	return fmt.Sprintf("%d messages wait", files)
}

// relay logs in to the relay, and sends nothing.
func (e *examination) relay(ctx context.Context) []doctor.Finding {
	if found := checkRelay(ctx, e.Mail); !found.OK {
		return []doctor.Finding{doctor.New(doctor.Fault, "relay", doctor.AboutMail,
			fmt.Sprintf("the relay %s cannot be used: %s", e.Mail.Relay.Parts().Address, found.Says),
			"correct mail.relay and its password, or repair the relay; until then, messages wait")}
	}
	return nil
}

// sender reports what "mail doctor" does about a tenant.
func (e *examination) sender(ctx context.Context, in *installation.Installation,
	t tenant.Tenant) (list []doctor.Finding) {
	found, err := checkSender(ctx, e.Mail, &t, dkim.NewKeys(in.Store, in.Seal), e.dns)
	for _, f := range found {
		if !f.OK {
			list = append(list, doctor.New(doctor.Warning, "sender", doctor.AboutMail,
				fmt.Sprintf("messages of %s may be treated as spam (%s): %s", t.Host, f.What, f.Says),
				"see the records to add: dialtone mail doctor --tenant "+t.Host))
		}
	}
	return append(list, failed("sender", err)...)
}

// server asks for a question at the public URLs, and then the server on this machine what it says of itself: it
// has noticed by then if the proxy on the way is not trusted. in is nil if the store was not opened.
func (e *examination) server(ctx context.Context, in *installation.Installation) (list []doctor.Finding) {
	var issuer *captcha.Issuer
	if in != nil {
		if ring, err := in.KeySources.Sign.Read(); err == nil {
			issuer = captcha.NewIssuer(ring, time.Now)
		}
	}
	if in != nil {
		var checks []doctor.Check
		for _, t := range e.tenants {
			public := doctor.Public{Tenant: t, Issuer: issuer, Roots: e.roots, DNS: e.dns, Now: time.Now}
			checks = append(checks, doctor.Check{Name: "public url", Do: public.Check})
		}
		list = doctor.Run(ctx, publicTime, checks)
		select {
		case <-time.After(readyzCache):
		case <-ctx.Done():
		}
	}
	return append(list, e.readyz(ctx)...)
}

const (
	// publicTime is how long the public URLs may take together.
	publicTime = 3 * time.Second
	// readyzCache is how old an answer of /readyz may be.
	readyzCache = 1100 * time.Millisecond
)

// readyz reports what the server on this machine says of itself.
func (e *examination) readyz(ctx context.Context) (list []doctor.Finding) {
	if e.Ops.TLSClientCA != "" {
		return []doctor.Finding{doctor.New(doctor.Note, "server", doctor.AboutHealth,
			"the server was not asked, because ops.tls_client_ca wants a certificate",
			"run: dialtone health --client-cert FILE --client-key FILE")}
	}
	state, err := (&healthCommand{}).ask(ctx, e.Config)
	if errors.Is(err, errNoAnswer) {
		return []doctor.Finding{doctor.New(doctor.Warning, "server", doctor.AboutStart,
			fmt.Sprintf("no server runs on this machine, or %v", err),
			"start it, and read the end of its log if it ends: systemctl start dialtone; journalctl -u dialtone")}
	} else if err != nil {
		return []doctor.Finding{doctor.New(doctor.Fault, "server", doctor.AboutHealth, err.Error(),
			"correct ops.listen, or end the other program or server")}
	}
	for _, c := range state.Checks {
		switch {
		case !c.OK:
			list = append(list, doctor.New(doctor.Fault, "server", doctor.AboutHealth,
				fmt.Sprintf("the server is not ready (%s): %s", c.Name, c.Error), "see what the check means"))
		case strings.HasPrefix(c.Warning, ops.SilentProxy):
			list = append(list, doctor.New(doctor.Fault, "server", doctor.AboutStart, c.Warning,
				"let the proxy set the header, as the examples in deploy/nginx and deploy/caddy do, or remove the "+
					"address from http.trusted_proxies if no proxy has it"))
		case c.Warning != "" && c.Name == "proxy":
			list = append(list, doctor.New(doctor.Fault, "server", doctor.AboutStart, c.Warning,
				"add the address to http.trusted_proxies, and restart the server"))
		case c.Warning != "":
			list = append(list, doctor.New(doctor.Warning, "server", doctor.AboutHealth,
				fmt.Sprintf("the server warns (%s): %s", c.Name, c.Warning), "see what the check means"))
		}
	}
	return list
}
