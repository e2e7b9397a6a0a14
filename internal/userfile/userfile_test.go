package userfile_test

import (
	"bufio"
	"bytes"
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/regularfile"
	"dialtone/internal/userfile"
)

// The hashes of alex at sip.test with the password "secret".
var (
	ha1  = digest.Compute("alex", "sip.test", "secret").Hex()
	ha1b = digest.ComputeB("alex", "sip.test", "secret").Hex()
	sum  = digest.ComputeSHA256("alex", "sip.test", "secret").Hex()
)

// describe returns a summary of an entry on one line: its line number, its user and its content.
func describe(e account.ImportEntry) string {
	text := fmt.Sprintf("%d %s@%s", e.Line, e.User, e.Realm)
	if e.Name != "" || e.Email != "" {
		text += fmt.Sprintf(" [%s %s]", e.Name, e.Email)
	}
	if e.HA1 != nil {
		text += map[bool]string{true: " ha1", false: " HA1?"}[e.HA1.Hex() == ha1]
	}
	if e.HA1B != nil {
		text += map[bool]string{true: " ha1b", false: " HA1B?"}[e.HA1B.Hex() == ha1b]
	}
	if e.SHA256 != nil {
		text += map[bool]string{true: " sha256", false: " SHA256?"}[e.SHA256.Hex() == sum]
	}
	if p := e.Password.Reveal(); p != "" {
		text += fmt.Sprintf(" %q", p)
	}
	if e.Problem != "" {
		text += " !" + string(e.Problem)
	} else if e.Detail != "" {
		text += " ?" + e.Detail
	}
	return text
}

// read reads a text as standard input.
func read(t testing.TB, format userfile.Format, input string) (list []string, err error) {
	t.Helper()
	s, err := userfile.Open(format, "-", strings.NewReader(input))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 2 { // it can be read again
		list = nil
		err = s.Read(t.Context(), func(e account.ImportEntry) error {
			list = append(list, describe(e))
			return nil
		})
	}
	return list, err
}

func TestRead(t *testing.T) {
	replace := strings.NewReplacer("HA1B", ha1b, "HA1", ha1, "SUM", sum, "UPPER", strings.ToUpper(ha1))
	for _, c := range []struct {
		name   string
		format userfile.Format
		input  string
		want   []string
	}{
		{"htdigest with CRLF, BOM and a comment", userfile.Htdigest,
			"\ufeffalex:sip.test:HA1\r\n\r\n# more\r\nbert:My Realm:x\nnonsense\ncarl:a:UPPER\ndora::HA1",
			[]string{"1 alex@sip.test ha1", "4 bert@My Realm !bad_hash", "5 @ !unreadable", "6 carl@a ha1",
				"7 dora@ !unreadable"}},
		{"CSV", userfile.CSV, "\"User\",realm,name,email,ha1,ha1b,ha1_sha256\n" +
			"alex,sip.test,\"Alex, \"\"A\"\"\",a@b.test,HA1,HA1B,SUM\nbert,,,,0xHA1,x,\ncarl,short\n",
			[]string{`2 alex@sip.test [Alex, "A" a@b.test] ha1 ha1b sha256`, "3 bert@ ha1 ?ha1b",
				"4 carl@short !unreadable"}},
		{"CSV with semicolons and passwords", userfile.CSV, "username;domain;password\nalex;sip.test;se;\"x\ny\"\n" +
			"bert;sip.test;\"a\nb\"\n", []string{`2 alex@sip.test "se" !unreadable`, `4 bert@sip.test "a\nb"`}},
		{"JSON lines", userfile.JSONLines, `{"user":"alex","realm":"sip.test","ha1":"HA1","other":[1]}` + "\n\n" +
			`{"username":"bert","password":"p"}` + "\n" + `{"user":5}` + "\nnull\n[]\n",
			[]string{"1 alex@sip.test ha1", `3 bert@ "p"`, "4 @ !unreadable", "5 @ !unreadable", "6 @ !unreadable"}},
		{"Kamailio's table in CSV", userfile.Kamailio, "id,username,domain,password,ha1,ha1b\n" +
			"1,alex,sip.test,,HA1,HA1B\n2,bert,sip.test,HA1,,\n3,carl,sip.test,pw,NULL,\\N\n",
			[]string{"2 alex@sip.test ha1 ha1b", "3 bert@sip.test !bad_hash", `4 carl@sip.test "pw"`}},
		{"mysqldump", userfile.Kamailio, "-- MySQL dump 10.13  Distrib 8.0.36\n" +
			"/*!40101 SET NAMES utf8mb4 */;\nDROP TABLE IF EXISTS `subscriber`;\nCREATE TABLE `subscriber` (\n" +
			"  `id` int unsigned NOT NULL AUTO_INCREMENT,\n  `username` varchar(64) NOT NULL DEFAULT '',\n" +
			"  `domain` varchar(64) NOT NULL DEFAULT ',(',\n  `ha1` varchar(128),\n  `password` varchar(64),\n" +
			"  PRIMARY KEY (`id`),\n  UNIQUE KEY `i` (`username`,`domain`)\n) ENGINE=InnoDB;\n" +
			"INSERT INTO `other` VALUES (1,'it\\'s; (',_binary 'x\\\\'),(2,'','');\n" +
			"INSERT INTO `subscriber` VALUES (1,'alex','sip.test','HA1',''),(2,'o\\'hara','sip.test',NULL," +
			"'a\\\\b\\n''\\Z\\%'),\n(3,'carl','sip.test',MD5('x'),'');\n" +
			"INSERT INTO `subscriber` VALUES (4,_utf8mb4'dora'," +
			"'sip.test',X'41',-1.5);",
			[]string{"14 alex@sip.test ha1", `14 o'hara@sip.test "a\\b\n'\x1a\\%"`, "15 carl@sip.test !unreadable",
				`16 dora@sip.test "-1.5" !bad_hash`}},
		{"a dump without CREATE TABLE", userfile.OpenSIPS,
			"INSERT INTO subscriber VALUES (1,'alex','sip.test','','a@b.test','HA1','SUM','',NULL);",
			[]string{"1 alex@sip.test [ a@b.test] ha1 sha256"}},
		{"pg_dump with COPY", userfile.Kamailio, "-- PostgreSQL database dump\n\\restrict x'y\n" +
			"CREATE FUNCTION public.f() RETURNS text AS $_$ SELECT ';'' $_$ LANGUAGE sql;\n" +
			"COPY public.other (a) FROM stdin;\nx'\n\\.\n\n" +
			"COPY public.subscriber (id, username, domain, password, ha1) FROM stdin;\n" +
			"1\talex\tsip.test\t\\N\tHA1\n2\tbert\tsip.test\ta\\\\b\\tc\t\n3\tcarl\n\\.\nSELECT 'x';\n",
			[]string{"9 alex@sip.test ha1", `10 bert@sip.test "a\\b\tc"`, "11 carl@ !unreadable"}},
		{"COPY in the first line", userfile.Kamailio, "COPY public.subscriber (id, username, domain, password, ha1) " +
			"FROM stdin;\n1\talex\tsip.test\t\t" + "HA1\n\\.\n", []string{"2 alex@sip.test ha1"}},
		{"INSERT in the first line", userfile.Kamailio, "insert into subscriber (id, username, domain, ha1) " +
			"values (1,'alex','sip.test','HA1');\n", []string{"1 alex@sip.test ha1"}},
		{"COPY in the first line for coturn", userfile.Coturn,
			"COPY turnusers_lt (x, name, hmackey, realm) FROM stdin;\n1\talex\tHA1\tsip.test\n\\.\n",
			[]string{"2 alex@sip.test ha1"}},
		{"COPY in the first line for Asterisk", userfile.Asterisk,
			"COPY ps_auths (x, id, auth_type, md5_cred, realm) FROM stdin;\n1\talex\tmd5\tHA1\tsip.test\n\\.\n",
			[]string{"2 alex@sip.test ha1"}},
		{"a comment with the names of columns in the first line", userfile.Kamailio,
			"-- id, username, domain\nINSERT INTO subscriber (username, domain, ha1) " +
				"VALUES ('alex','sip.test','HA1');\n",
			[]string{"2 alex@sip.test ha1"}},
		{"a table in CSV with more columns", userfile.Kamailio, "select,username,phone (work),domain,ha1\n" +
			"x,alex,1,sip.test,HA1\n", []string{"2 alex@sip.test ha1"}},
		{"bytes of other tables and columns", userfile.Kamailio,
			"INSERT INTO other (a) VALUES (_binary '\xff');\n-- gr\xfcn\n" +
				"INSERT INTO subscriber (username, domain, ha1, photo) VALUES ('alex','sip.test','HA1','\xff');\n",
			[]string{"3 alex@sip.test ha1"}},
		{"pg_dump with INSERT", userfile.Kamailio, "INSERT INTO public.subscriber (username, domain, password) " +
			"VALUES ('alex', 'sip.test', 'a\\b''c'), ('bert', 'sip.test', E'a\\\\b'::character varying(64));\n",
			[]string{`1 alex@sip.test "a\\b'c"`, `1 bert@sip.test "a\\b"`}},
		{"Flexisip", userfile.Flexisip,
			"CREATE TABLE `accounts` (`id` int, `username` varchar(64), `domain` varchar(64), " +
				"`email` varchar(64), `activated` tinyint(1), `blocked` tinyint(1));\n" +
				"INSERT INTO `accounts` VALUES (10,'carl','sip.test',NULL,0,0),(2,'alex','sip.test','a@b.test',1,0)," +
				"(3,'bert','sip.test',NULL,1,0),(4,'dora','sip.test',NULL,1,1),(5,'emil','sip.test',NULL,1,0);\n" +
				"CREATE TABLE `passwords` (`id` int, `account_id` int, `password` varchar(255), " +
				"`algorithm` varchar(10));\n" +
				"INSERT INTO `passwords` VALUES (1,2,'HA1','MD5'),(2,2,'SUM','SHA-256'),(3,3,'pw','CLRTXT')," +
				"(4,99,'x','MD5'),(5,5,'x','BCRYPT');\n",
			[]string{"2 alex@sip.test [ a@b.test] ha1 sha256", `2 bert@sip.test "pw"`, "2 dora@sip.test !inactive",
				"2 emil@sip.test !bad_hash", "2 carl@sip.test !inactive"}},
		{"coturn", userfile.Coturn, "CREATE TABLE turnusers_lt (realm varchar(127) default '', name varchar(512), " +
			"hmackey char(128), PRIMARY KEY (realm,name));\n" +
			"INSERT INTO turnusers_lt VALUES('sip.test','alex','0xHA1');\n",
			[]string{"2 alex@sip.test ha1"}},
		{"coturn in CSV", userfile.Coturn, "realm,name,hmackey\nsip.test,alex,SUM\n",
			[]string{"2 alex@sip.test sha256"}},
		{"FreeSWITCH", userfile.FreeSWITCH, `<document><section name="directory"><domain name="sip.test"><groups>
<group name="all"><users><user id="alex"><params><param name="a1-hash" value="HA1"/></params>
<variables><variable name="effective_caller_id_name" value="Alex &amp; Co"/></variables></user>
<user id="bert"><params><param name="password" value="$${default_password}"/></params></user>
</users></group><group name="sales"><users><user id="alex" type="pointer"/></users></group></groups></domain>
<domain name="$${domain}"><user id="carl"><params><param name="password" value="p&lt;"/>
<param name="vm-mailto" value="c@b.test"/></params></user></domain></section></document>`,
			[]string{"2 alex@sip.test [Alex & Co ] ha1", "4 bert@sip.test !unreadable", `6 carl@ [ c@b.test] "p<"`}},
		{"pjsip.conf", userfile.Asterisk, `; comment
[global]
type=global
default_realm=sip.test
[tmpl](!)
type = auth
auth_type=md5 ;-- x
 y --; ; z
[alex](tmpl)
md5_cred=HA1
[bert]
type=auth
auth_type=userpass
username=bert2
password=a\;b
realm=ignored
[carl](tmpl)
auth_type=digest
realm=other
password_digest=MD5:HA1
password_digest = SHA-256:SUM
[trunk]
type=auth
username=us
password=x
[e]
type=endpoint
auth=alex
outbound_auth=trunk
callerid="Alex A" <100>
[f]
type=aor
#include more.conf
`, []string{"33 @ !unreadable", "9 alex@sip.test [Alex A ] ha1", `11 bert2@ "a;b"`, "17 carl@other ha1 sha256",
			`22 us@ "x" !trunk`}},
		{"sip.conf", userfile.Asterisk, "[general]\nrealm=sip.test\n[phones](!)\ntype=friend\nhost=dynamic\n" +
			"[alex](phones)\nmd5secret=HA1\nsecret=ignored\n[bert](phones)\nsecret => pw\n" +
			"[provider]\ntype=peer\nhost=sip.provider.test\nsecret=x\n",
			[]string{"6 alex@sip.test ha1", `9 bert@ "pw"`, "11 provider@ !trunk"}},
		{"ps_auths", userfile.Asterisk, "id,auth_type,password,username,realm,md5_cred,password_digest\n" +
			"a1,md5,,alex,sip.test,HA1,\na2,userpass,pw,,x,,\na3,digest,,carl,sip.test,,\"MD5:HA1,SHA-256:SUM\"\n" +
			"a4,oauth,,dora,,,\na5,md5,,emil,,HA1,\n",
			[]string{"2 alex@sip.test ha1", `3 a2@ "pw"`, "4 carl@sip.test ha1 sha256", "5 dora@ !no_password",
				"6 emil@asterisk ha1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := read(t, c.format, replace.Replace(c.input))
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("got %v\n%s\nwant\n%s", err, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// Inputs that are too long, not closed or malicious end with an error that names the line.
func TestHostileInputs(t *testing.T) {
	deep := strings.Repeat("<a>", 100)
	for _, c := range []struct {
		name   string
		format userfile.Format
		input  string
		want   string
	}{
		{"endless line", userfile.Htdigest, "a:b:c\n" + strings.Repeat("x", 2<<20), "line 2: "},
		{"endless line of JSON", userfile.JSONLines, strings.Repeat("[", 2<<20), "line 1: "},
		{"quote in CSV that is not closed", userfile.CSV,
			"user,password\nalex,\"" + strings.Repeat("x\n", 2<<20), "line 2: the row is longer than 1 MiB"},
		{"quote in CSV", userfile.CSV, "user,password\nalex,a\"b\n", `line 2: `},
		{"CSV without a header", userfile.CSV, "alex,secret\n",
			"line 1: there is no header with a column user; the first line has to name the columns, of user, "},
		{"empty CSV", userfile.CSV, "", "the file is empty"},
		{"CSV in UTF-16", userfile.CSV, "\xff\xfeu\x00s\x00e\x00r\x00", "the file is UTF-16; convert it"},
		{"htdigest in UTF-16", userfile.Htdigest, "\xfe\xff\x00a\x00:", "the file is UTF-16; convert it"},
		{"SQL as CSV", userfile.CSV, "COPY subscriber (id, username) FROM stdin;\n",
			"the file is an SQL dump; choose the format of the platform that it comes from"},
		{"COPY in the first line that does not end", userfile.Kamailio,
			"COPY subscriber (id, username) FROM stdin;\n1\talex\n", `line 3: the rows of COPY do not end with \.`},
		{"CSV with columns that nothing has", userfile.CSV, "user,pass,e-mail,ha1\nalex,x,a@b.test,\n",
			`line 1: unknown columns: "pass", "e-mail"; rename them, or remove them from the file; what is read is us`},
		{"CSV with a column without a name", userfile.CSV, "user,password,\n", `line 1: unknown columns: "";`},
		{"CSV with a hash in its first line", userfile.CSV, "user," + ha1 + "\n",
			`unknown columns: "` + ha1[:8] + `…";`},
		{"quote in SQL that is not closed", userfile.Kamailio, "\nINSERT INTO subscriber VALUES (1,'alex", "line 2: "},
		{"comment that is not closed", userfile.Kamailio, "\n\n/* x", "line 3: a quote or a comment is not closed"},
		{"row that does not end", userfile.Kamailio, "INSERT INTO subscriber VALUES (1,'alex'", "line 1: the row"},
		{"dollar quote", userfile.Kamailio, "SELECT $x$ ';", "line 1: a quote or a comment is not closed"},
		{"COPY that does not end", userfile.Kamailio, "COPY subscriber (username) FROM stdin;\nalex\n", "line 3: "},
		{"unknown columns", userfile.Kamailio, "INSERT INTO subscriber VALUES (1,'alex');", "line 1: the columns"},
		{"another file", userfile.Kamailio, "just a text\n", "no rows of the table subscriber"},
		{"too many values", userfile.Kamailio,
			"INSERT INTO subscriber VALUES (1" + strings.Repeat(",1", 2000), "line 1: "},
		{"external entity", userfile.FreeSWITCH,
			`<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><user id="&e;"/>`, "line 1: a DOCTYPE"},
		{"unknown entity", userfile.FreeSWITCH, `<user id="&e;"/>`, "line 1: this is not XML"},
		{"deep nesting", userfile.FreeSWITCH, deep, "line 1: there are more than 64 nested elements"},
		{"XML that does not end", userfile.FreeSWITCH, "<user id='a'>\n", "this is not XML"},
		{"huge XML", userfile.FreeSWITCH, "<a>" + strings.Repeat("<b/>"+strings.Repeat(" ", 1<<16), 17<<4),
			"longer than 16 MiB"},
		{"huge element", userfile.FreeSWITCH, "<a>\n<user" + strings.Repeat(` a=""`, 1<<18) + "/></a>",
			"line 2: an element, a text or a comment is longer than 1 MiB"},
		{"SQLite on standard input", userfile.Kamailio, "SQLite format 3\x00",
			"a file of SQLite cannot be read from standard input; give its path"},
		{"SQLite as CSV", userfile.CSV, "SQLite format 3\x00",
			"the format csv cannot be read from a file of SQLite; give a file of this format"},
		{"SQLite as htdigest", userfile.Htdigest, "SQLite format 3\x00",
			"the format htdigest cannot be read from a file of SQLite; "},
		{"section without an end", userfile.Asterisk, "[general]\n[alex\n", "line 2: "},
	} {
		got, err := read(t, c.format, c.input)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, %v, want an error with %q", c.name, got, err, c.want)
		}
	}
	// Values that are too long, and NUL, are the problem of one row.
	long := strings.Repeat("x", 65_535) + "ä"
	for format, input := range map[userfile.Format]string{
		userfile.CSV: "user,password\nalex," + long + "\n" + long + ",x\nbert\x00,x\ncarl,y\n",
		userfile.Kamailio: "INSERT INTO subscriber (username, password) VALUES ('alex','" + long + "')," +
			"('" + long + "','x'),('bert\x00','x'),('carl','y');",
		userfile.JSONLines: `{"user":5}` + "\n" + `{"user":[]}` + "\n" + `{"user":"bert\u0000"}` + "\n" +
			`{"user":"carl","password":"y"}`,
	} {
		got, err := read(t, format, input)
		if err != nil || len(got) != 4 || !strings.HasSuffix(got[3], `carl@ "y"`) {
			t.Fatalf("%s: got %.200q, %v", format, got, err)
		}
		for _, e := range got[:3] {
			if !strings.HasSuffix(e, "!unreadable") {
				t.Errorf("%s: got %.200q", format, e)
			}
		}
	}
}

// A text that is not UTF-8 ends the reading, in every format and for every value. The error names
// the line and the command that converts the file.
func TestNotUTF8(t *testing.T) {
	const step = "is not UTF-8; convert the file, for example with: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"
	for _, c := range []struct {
		name   string
		format userfile.Format
		input  string
		line   int
	}{
		{"display name in CSV", userfile.CSV, "user,name,password\nalex,Al,x\nbert,Gro\xdfe,x\n", 3},
		{"user name in CSV", userfile.CSV, "user,password\nb\xff,x\n", 2},
		{"password in CSV", userfile.CSV, "user,password\nalex,\xfc\n", 2},
		{"within quotes in CSV", userfile.CSV, "user,name\nalex,\"a\n\xe4\"\n", 3},
		{"header of CSV", userfile.CSV, "user,gr\xf6\xdfe\nalex,x\n", 1},
		{"end of CSV", userfile.CSV, "user,name\nalex,\xe4", 2},
		{"end of CSV, cut", userfile.CSV, "user,name\nalex,\xc3", 2},
		{"far down in CSV", userfile.CSV, "user,name\n" + strings.Repeat("alex,\u00e4\u20ac\U0001f600xy\n", 20_000) +
			"bert,\xe4\n", 20_002},
		{"a column of Kamailio in CSV", userfile.Kamailio,
			"username,domain,first_name,x\nalex,sip.test,J\xfcrgen,\n", 2},
		{"a member of JSON lines", userfile.JSONLines, `{"user":"alex","password":"x"}` + "\n" +
			`{"user":"bert","name":"Gro` + "\xdf" + `e","password":"x"}` + "\n", 2},
		{"htdigest", userfile.Htdigest, "alex:sip.test:" + ha1 + "\nj\xfcrgen:sip.test:" + ha1 + "\n", 2},
		{"pjsip.conf", userfile.Asterisk, "[alex]\ntype=auth\npassword=gr\xfcn\n", 3},
		{"sip.conf", userfile.Asterisk, "[alex]\ntype=friend\nsecret=x\ncallerid=\"J\xfcrgen\" <1>\n", 4},
		{"FreeSWITCH", userfile.FreeSWITCH, "<include>\n<user id=\"alex\">\n" +
			"<variable name=\"effective_caller_id_name\" value=\"J\xfcrgen\"/></user></include>", 3},
		{"name in INSERT", userfile.Kamailio,
			"INSERT INTO subscriber (username, first_name) VALUES\n('alex','Al'),\n('bert','J\xfcrgen');", 3},
		{"password in INSERT", userfile.Kamailio,
			"INSERT INTO subscriber (username, password) VALUES ('a','\xfc');", 1},
		{"user name in COPY", userfile.OpenSIPS,
			"COPY subscriber (username, password) FROM stdin;\nj\xfcrgen\tx\n\\.\n", 2},
		{"Flexisip", userfile.Flexisip, "INSERT INTO accounts (id, username, email) VALUES (1,'a','\xfc@b.test');\n" +
			"INSERT INTO passwords (account_id, algorithm, password) VALUES (1,'CLRTXT','x');\n", 1},
	} {
		_, err := read(t, c.format, c.input)
		want := fmt.Sprintf("line %d: the text %s", c.line, step)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", c.name, err, want)
		}
	}
	_, err := read(t, userfile.FreeSWITCH, `<?xml version="1.0" encoding="ISO-8859-1"?>`+"\n<user id=\"j\xfcrgen\"/>")
	const want = "line 1: the XML says that it is ISO-8859-1; if so, convert it with: iconv -f ISO-8859-1 -t UTF-8 " +
		"OLD > NEW; then write UTF-8 into its first line"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v", err)
	}
	got, err := read(t, userfile.FreeSWITCH, `<?xml version="1.0" encoding="us-ascii"?><user id="alex"/>`)
	if err != nil || len(got) != 1 {
		t.Errorf("got %q, %v", got, err)
	}
}

// iconv cannot convert an SQLite file, so the error names the row and suggests a dump.
func TestDatabaseWithoutUTF8(t *testing.T) {
	path := filepath.Join(t.TempDir(), "latin1.db")
	db, err := sql.Open("sqlite", path)
	if err == nil {
		_, err = db.Exec(`CREATE TABLE subscriber (username TEXT, first_name TEXT);
			INSERT INTO subscriber VALUES ('alex', 'Al'), ('bert', CAST(x'4afc' AS TEXT))`)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := userfile.Open(userfile.Kamailio, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Read(t.Context(), func(account.ImportEntry) error { return nil })
	const want = "row 2: the text is not UTF-8; correct it in the database, or import a dump of it that is " +
		"converted, for example with: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

// The errors of rows and files say what to do.
func TestAdvice(t *testing.T) {
	for _, c := range []struct {
		format      userfile.Format
		input, want string
	}{
		{userfile.JSONLines, `[{"user":"alex"}]`, "a JSON array; write each of its objects on a line of its own"},
		{userfile.JSONLines, `{"user":1001}`, "user is a number; write it as a text, in quotes"},
		{userfile.JSONLines, `{"user":"alex","ha1":{"md5":"x"}}`, "ha1 is an object; write it as a text, in quotes"},
		{userfile.JSONLines, `{"user":"alex","password":true}`,
			"password is true or false; write it as a text, in quotes"},
		{userfile.JSONLines, `{"user":"alex","pass`,
			"the JSON object does not end in this line; write each object on one line"},
		{userfile.JSONLines, `{"user":"alex",}`,
			"not JSON; write one JSON object on each line, without commas between them"},
		{userfile.JSONLines, `user,ha1`, "not JSON; write one JSON object on each line, without commas between them"},
		{userfile.JSONLines, `"alex"`, "not a JSON object; write one JSON object on each line"},
		{userfile.JSONLines, `{"login":"alex"}`, "there is no user name"},
		{userfile.CSV, "user,password\n,x", "there is no user name"},
		{userfile.CSV, "user,password\nalex", "1 value, and the header has 2 columns; write all of them, and put a " +
			"value in quotes if it contains the separator ,"},
		{userfile.CSV, "user;password\nalex;a;b",
			"3 values, and the header has 2 columns; write all of them, and put a " +
				"value in quotes if it contains the separator ;"},
		{userfile.CSV, "user\tname\tpassword\nalex\tb",
			"2 values, and the header has 3 columns; write all of them, and " +
				"put a value in quotes if it contains the separator, the tab"},
		{userfile.Kamailio, "INSERT INTO subscriber (username, ha1) VALUES ('alex', MD5('x'))",
			"a value is an SQL expression; write the value itself"},
	} {
		s, err := userfile.Open(c.format, "-", strings.NewReader(c.input))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		var got account.ImportEntry
		err = s.Read(t.Context(), func(e account.ImportEntry) error { got = e; return nil })
		if err != nil || got.Problem != account.ImportUnreadable || got.Detail != c.want {
			t.Errorf("%s: got %q, %q, %v, want %q", c.input, got.Problem, got.Detail, err, c.want)
		}
	}
	for _, c := range []struct {
		format      userfile.Format
		input, want string
	}{
		{userfile.CSV, "user,password\nalex,a\"b\n", `line 2: a quote is in a value without quotes; write the value ` +
			`in quotes, and the quote twice`},
		{userfile.CSV, "user,password\nalex,\"a\"b\"\n", `line 2: a quote in a value with quotes is not written ` +
			`twice, or the quotes do not end; write "a""b" for a"b`},
		{userfile.CSV, "user,password\nalex,x\nbert,\"" + strings.Repeat("x\n", 2<<20),
			"line 3: the row is longer than 1 MiB; is there a quote that does not end?"},
		{userfile.CSV, "\xff\xfeu\x00",
			"the file is UTF-16; convert it to UTF-8 with: iconv -f UTF-16 -t UTF-8 OLD > NEW"},
		{userfile.Htdigest, "", "the file contains no accounts; does it have a format other than htdigest?"},
		{userfile.JSONLines, "\n", "the file contains no accounts; does it have a format other than jsonl?"},
		{userfile.FreeSWITCH, "<html/>", "the file contains no accounts; does it have a format other than freeswitch?"},
		{userfile.Asterisk, "[mail]\nrelay=x\n",
			"the file contains no accounts; does it have a format other than asterisk?"},
	} {
		if got, err := read(t, c.format, c.input); err == nil || err.Error() != c.want {
			t.Errorf("%.80q: got %v, %v, want %q", c.input, got, err, c.want)
		}
	}
}

// The columns of the exports, of the other systems and of the SQL readers are known.
func TestKnownColumns(t *testing.T) {
	for format, header := range map[userfile.Format]string{
		userfile.CSV:      strings.Join(userfile.PlainColumns, ",") + ",password",
		userfile.Kamailio: "id,username,domain,password,ha1,ha1b,email_address,rpid,first_name,last_name",
		userfile.OpenSIPS: "id,username,domain,password,email_address,ha1,ha1_sha256,ha1_sha512t256,rpid",
		userfile.Asterisk: "id,auth_type,nonce_lifetime,md5_cred,password,realm,username,refresh_token," +
			"oauth_clientid,oauth_secret,password_digest,supported_algorithms_uac,supported_algorithms_uas",
		userfile.Coturn: "realm,name,hmackey",
	} {
		if got, err := read(t, format, header+"\n"); err != nil || len(got) != 0 {
			t.Errorf("%s: got %v, %v", format, got, err)
		}
	}
}

// Errors of databases name the file, and say what to give.
func TestDatabaseErrors(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, bytes.Repeat([]byte("no database\n"), 100), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "missing")
	for _, c := range []struct {
		format         userfile.Format
		location, want string
	}{
		{userfile.Kamailio, "sqlite:" + missing, missing + ": no such file or directory"},
		{userfile.Kamailio, "sqlite:" + text, text + " has no table subscriber that can be read: "},
		{userfile.Kamailio, "sqlite:" + dir, dir + ": it is a directory, not a regular file"},
		{userfile.CSV, "sqlite:" + text, "the format csv cannot be read from a database; give a file of this format"},
		{userfile.CSV, "postgres://127.0.0.1:1/x", "the format csv cannot be read from a database; "},
	} {
		s, err := userfile.Open(c.format, c.location, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Read(t.Context(), func(account.ImportEntry) error { return nil })
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: got %v, want an error with %q", c.format, c.location, err, c.want)
		}
	}
}

// Only tables of an SQLite file are read, and no values of unlimited length.
func TestCraftedDatabases(t *testing.T) {
	for name, c := range map[string]struct{ sql, want string }{
		"a view": {
			"CREATE VIEW subscriber AS WITH RECURSIVE n(username) AS (SELECT 1 UNION ALL SELECT 1 FROM n) " +
				"SELECT * FROM n",
			"has no table subscriber",
		},
		"a virtual table": {
			"CREATE VIEW endless AS WITH RECURSIVE n(c) AS (SELECT 1 UNION ALL SELECT c+1 FROM n) " +
				"SELECT c AS rowid, c AS username FROM n;" +
				"CREATE VIRTUAL TABLE subscriber USING fts5(username, content='endless')",
			"has no table subscriber",
		},
		"a generated column": {
			"CREATE TABLE subscriber (username TEXT, ha1 BLOB GENERATED ALWAYS AS (zeroblob(400000000)));" +
				"INSERT INTO subscriber (username) VALUES ('alex')",
			"too big",
		},
	} {
		path := filepath.Join(t.TempDir(), "made.db")
		db, err := sql.Open("sqlite", path)
		if err == nil {
			_, err = db.Exec(c.sql)
		}
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(name, err)
		}
		s, err := userfile.Open(userfile.Kamailio, "sqlite:"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Read(t.Context(), func(account.ImportEntry) error { return nil })
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
}

// A file that the shell has opened may be a pipe, and is still read twice. Other pipes are refused.
func TestPipes(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("alex:phone.test:0123456789abcdef0123456789abcdef\n"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	s, err := userfile.Open(userfile.Htdigest, fmt.Sprintf("/dev/fd/%d", r.Fd()), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 2 {
		n := 0
		err := s.Read(t.Context(), func(account.ImportEntry) error { n++; return nil })
		if err != nil || n != 1 {
			t.Errorf("%d entries, %v", n, err)
		}
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, location := range []string{pipe, "sqlite:" + pipe} {
		s, err := userfile.Open(userfile.Kamailio, location, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Read(t.Context(), func(account.ImportEntry) error { return nil })
		if !errors.Is(err, regularfile.ErrOther) {
			t.Errorf("%s: %v", location, err)
		}
	}
}

// A recursive template does not make the reader hang.
func TestTemplatesOfThemselves(t *testing.T) {
	got, err := read(t, userfile.Asterisk, "[a](!,b)\ntype=auth\n[b](!,a)\nauth_type=userpass\n[alex](a)\npassword=x\n")
	if err != nil || len(got) != 1 {
		t.Errorf("got %v, %v", got, err)
	}
}

// A directory of FreeSWITCH has a file for each user.
func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"default.xml":      "<include><domain name=\"$${domain}\"></domain></include>",
		"default/1000.xml": `<include><user id="1000"><param name="password" value="x"/></user></include>`,
		"default/1001.xml": `<include><user id="1001"><param name="a1-hash" value="` + ha1 + `"/></user></include>`,
		"default/notes":    "no XML",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/dev/zero", filepath.Join(dir, "zero.xml")); err != nil {
		t.Fatal(err)
	}
	s, err := userfile.Open(userfile.FreeSWITCH, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = s.Read(t.Context(), func(e account.ImportEntry) error {
		got = append(got, e.File+" "+describe(e))
		return nil
	})
	want := []string{`default/1000.xml 1 1000@ "x"`, "default/1001.xml 1 1001@ ha1"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
}

// Templates that name each other often are refused, so that reading does not take forever.
func TestManyTemplates(t *testing.T) {
	list := func(name string) string { return strings.Repeat(name+",", 100) }
	text := "[a](!," + list("b") + ")\ntype=auth\n[b](!," + list("a") + ")\ntype=auth\n[alex](a)\nusername=alex\n"
	if _, err := read(t, userfile.Asterisk, text); err == nil || !strings.Contains(err.Error(), "too often") {
		t.Errorf("got %v", err)
	}
}

// FreeSWITCH replaces its variables in the files that it reads, and people choose their names.
func TestNoVariablesForFreeSWITCH(t *testing.T) {
	c := digest.Credential{HA1: digest.Compute("alex", "sip.test", "secret")}
	e := userfile.Exported{Realm: "sip.test", Credential: &c}
	e.User = "alex"
	for _, name := range []string{"$${default_password}", "${x}", "a ${b"} {
		e.Name = name
		var out bytes.Buffer
		w, err := userfile.NewWriter(userfile.FreeSWITCH, &out, "for a test")
		if err == nil {
			err = errors.Join(w.Write(e), w.Close())
		}
		if err != nil || strings.Contains(out.String(), "${") || !strings.Contains(out.String(), `value="alex"`) {
			t.Errorf("%q: %v, %s", name, err, out.String())
		}
	}
}

// The readers read what the writers have written.
func TestWritersAndReaders(t *testing.T) {
	b, s256 := digest.ComputeB("alex", "sip.test", "secret"), digest.ComputeSHA256("alex", "sip.test", "secret")
	e := userfile.Exported{Realm: "sip.test", Credential: &digest.Credential{
		HA1: digest.Compute("alex", "sip.test", "secret"), HA1B: &b, SHA256: &s256,
	}}
	e.User, e.Name, e.Email, e.Role, e.Lang = "alex", `Alex "A" <&>; O'H`, "a'x@b.test", account.User, "de"
	for format, c := range map[userfile.Format]struct {
		reader userfile.Format
		want   string
	}{
		userfile.Htdigest:    {userfile.Htdigest, "alex@sip.test ha1"},
		userfile.KamailioCSV: {userfile.Kamailio, "alex@sip.test [ a'x@b.test] ha1 ha1b"},
		userfile.KamailioSQL: {userfile.Kamailio, "alex@sip.test ha1 ha1b"},
		userfile.CoturnSQL:   {userfile.Coturn, "alex@sip.test ha1"},
		userfile.PJSIP:       {userfile.Asterisk, "alex@sip.test ha1"},
		userfile.FreeSWITCH:  {userfile.FreeSWITCH, `alex@sip.test [Alex "A" <&>; O'H ] ha1`},
		userfile.CSV:         {userfile.CSV, `alex@sip.test [Alex "A" <&>; O'H a'x@b.test] ha1 ha1b sha256`},
		userfile.JSONLines:   {userfile.JSONLines, `alex@sip.test [Alex "A" <&>; O'H a'x@b.test] ha1 ha1b sha256`},
	} {
		var out bytes.Buffer
		w, err := userfile.NewWriter(format, &out, "for a test")
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(e); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := read(t, c.reader, out.String())
		if err != nil || len(got) != 1 || !strings.HasSuffix(got[0], " "+c.want) {
			t.Errorf("%s: got %q, %v, want %q", format, got, err, c.want)
		}
	}
	if len(userfile.ExportFormats) != 8 {
		t.Error("a format is not tested")
	}
}

// The documentation lists what each format contains besides user name, realm and HA1, and an import
// reads the same.
func TestDocumentedExports(t *testing.T) {
	b, s256 := digest.ComputeB("alex", "sip.test", "secret"), digest.ComputeSHA256("alex", "sip.test", "secret")
	e := userfile.Exported{Realm: "sip.test", Credential: &digest.Credential{
		HA1: digest.Compute("alex", "sip.test", "secret"), HA1B: &b, SHA256: &s256,
	}}
	e.User, e.Name, e.Email, e.Role, e.Lang = "alex", "Alex", "a@b.test", account.User, "de"
	text, err := os.ReadFile("../../docs/migrating.md")
	if err != nil {
		t.Fatal(err)
	}
	readers := map[userfile.Format]userfile.Format{
		userfile.KamailioCSV: userfile.Kamailio, userfile.KamailioSQL: userfile.Kamailio,
		userfile.CoturnSQL: userfile.Coturn, userfile.PJSIP: userfile.Asterisk,
	}
	for _, format := range userfile.ExportFormats {
		var out bytes.Buffer
		w, err := userfile.NewWriter(format, &out, "for a test")
		if err == nil {
			err = errors.Join(w.Write(e), w.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		s, err := userfile.Open(cmp.Or(readers[format], format), "-", &out)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		err = s.Read(t.Context(), func(got account.ImportEntry) error {
			row := fmt.Sprintf("\n| `%s` |", format)
			for _, has := range []bool{got.Name != "", got.Email != "", got.HA1B != nil, got.SHA256 != nil,
				got.Role != "" && got.Lang != ""} {
				row += map[bool]string{true: " yes |", false: " no |"}[has]
			}
			if !strings.Contains(string(text), row+"\n") {
				t.Errorf("docs/migrating.md has no line %q", row)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Names that a spreadsheet would interpret as formulas are written unchanged: the file is for
// imports.
func TestFormulasStayNames(t *testing.T) {
	for _, name := range []string{`=HYPERLINK("https://a.test")`, "+1", "-1+2", "@SUM(A1)", "'=1", "0042", "a\t=1"} {
		for _, format := range []userfile.Format{userfile.CSV, userfile.JSONLines} {
			e := userfile.Exported{Realm: "sip.test"}
			e.User, e.Name = "alex", name
			var out bytes.Buffer
			w, err := userfile.NewWriter(format, &out, "")
			if err = errors.Join(err, w.Write(e), w.Close()); err != nil {
				t.Fatal(err)
			}
			if got, err := read(t, format, out.String()); err != nil || len(got) != 1 ||
				!strings.Contains(got[0], "["+name+" ") {
				t.Errorf("%s: %q becomes %q, %v", format, name, got, err)
			}
		}
	}
}

// The secrets of an entry are not printed.
func TestSecretsDoNotPrint(t *testing.T) {
	s, err := userfile.Open(userfile.CSV, "-", strings.NewReader("user,ha1,password\nalex,"+ha1+",secret word\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.Read(t.Context(), func(e account.ImportEntry) error {
		if text := fmt.Sprintf("%v %+v", e, e); strings.Contains(text, ha1) || strings.Contains(text, "secret word") {
			t.Error("an entry prints its secrets")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// fuzz checks that a reader returns, and that no text of an entry is longer than the limit.
func fuzz(f *testing.F, format userfile.Format, seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		s, err := userfile.Open(format, "-", bytes.NewReader(input))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		last := int64(bytes.Count(input, []byte("\n")) + 1)
		err = s.Read(t.Context(), func(e account.ImportEntry) error {
			if len(e.User) > 64<<10 || len(e.Password.Reveal()) > 1<<20 || e.Line < 0 || e.Line > last {
				t.Errorf("line %d of %d, a name of %d bytes", e.Line, last, len(e.User))
			}
			return nil
		})
		_ = err
	})
}

func FuzzHtdigest(f *testing.F) { fuzz(f, userfile.Htdigest, "alex:sip.test:"+ha1+"\n", ":::\n") }

func FuzzCSV(f *testing.F) { fuzz(f, userfile.CSV, "user,ha1\nalex,x\n", "user;a\n\"x") }

func FuzzJSONLines(f *testing.F) { fuzz(f, userfile.JSONLines, `{"user":"alex"}`) }

func FuzzSQL(f *testing.F) {
	fuzz(f, userfile.Kamailio, "INSERT INTO subscriber (username) VALUES ('a'),(NULL);",
		"CREATE TABLE `subscriber` (`username` int, KEY (`x`)); INSERT INTO `subscriber` VALUES ('\\'');",
		"COPY subscriber (username, ha1) FROM stdin;\na\tb\n\\.\n", "$x$ ' $x$; -- y\n/* */ # z\n E'\\''")
}

func FuzzFlexisip(f *testing.F) {
	fuzz(f, userfile.Flexisip, "INSERT INTO accounts (id, username) VALUES (1,'a'); "+
		"INSERT INTO passwords (account_id, password, algorithm) VALUES (1,'x','MD5');")
}

func FuzzXML(f *testing.F) {
	fuzz(f, userfile.FreeSWITCH, `<domain name="x"><user id="a"><param name="password" value="x"/></user></domain>`,
		"</user>", "<user/></a>")
}

func FuzzAsterisk(f *testing.F) {
	fuzz(f, userfile.Asterisk, "[general]\nrealm=x\n[a](!)\ntype=friend\n[b](a)\nsecret=x\n",
		"[a]\ntype=auth\nusername=x\n;-- --;")
}

// Reading does not keep the file in memory, even if one statement contains all rows.
func TestMemoryIsFlat(t *testing.T) {
	pr, pw := io.Pipe()
	const rows = 200_000 // 12 MB
	go func() {
		w := bufio.NewWriter(pw)
		fmt.Fprint(w, "INSERT INTO subscriber (username, domain, ha1) VALUES ")
		for i := range rows {
			fmt.Fprintf(w, "('user%d','sip.test','%s'),", i, ha1)
		}
		fmt.Fprint(w, "('last','sip.test','');")
		pw.CloseWithError(w.Flush())
	}()
	s, err := userfile.Open(userfile.Kamailio, "-", pr)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	n, before, after := 0, int64(0), int64(0)
	err = s.Read(t.Context(), func(account.ImportEntry) error {
		switch n++; n {
		case 1000:
			before = heap()
		case rows:
			after = heap()
		}
		return nil
	})
	if err != nil || n != rows+1 {
		t.Errorf("%d rows, %v", n, err)
	}
	if grown := after - before; grown > 1<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
}
