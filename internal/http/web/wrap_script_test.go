package web

import (
	"net/http"
	"testing"

	"dialtone/internal/i18n"
	"dialtone/internal/provision"
)

// onLongHost serves the pages of a platform with a long but realistic host name, and returns their
// paths.
func (s *pageServer) onLongHost(t *testing.T) []string {
	t.Helper()
	const host = "phone.example.org"
	site, err := loadTestSite()
	if err != nil {
		t.Fatal(err)
	}
	link := "https://" + host + "/provision/linphone.xml?token=x"
	code, err := newQR(link)
	if err != nil {
		t.Fatal(err)
	}
	f := frame{Product: host, Host: host, Realm: host, Switch: true}
	in := f
	in.SignedIn = "alex"
	linphone := setup{
		Program: "linphone", Code: code, Link: link, Open: opener(provision.Linphone, link),
		Stores: stores[provision.Linphone], Seconds: 840,
	}
	var paths []string
	for path, v := range map[string]view{
		"/long/home":   {"home", homePage{f}},
		"/long/in":     {"home", homePage{in}},
		"/long/signup": {"signup", signupPage{frame: f, MailFrom: "no-reply@mail." + host}},
		"/long/login":  {"login", loginPage{frame: f, Next: "/account.html", Passkeys: true}},
		"/long/account": {"account", accountPage{
			frame: in, Name: "Maximilian Schwarzenberger", Email: "maximilian.schwarzenberger@example.org",
			SIP:   sipSettings{User: "alex", Domain: host, Server: "sip.example.org:5061", Transport: "TLS"},
			Phone: &linphone, TwoStep: true, Passkeys: 20,
			Asked: &phoneLookups{[]listedPhoneServer{
				{Name: "kamailio-registrar-1.maximilian-schwarzenberger.example.org"},
			}},
		}},
	} {
		paths = append(paths, path)
		s.handle(path, func(w http.ResponseWriter, r *http.Request) {
			tag := i18n.English
			if r.URL.RawQuery == "lang=ar" {
				tag = i18n.Arabic
			}
			out, err := site.pages.render(tag, v.page, v.data)
			if err != nil {
				t.Error(err)
			}
			writePage(w, http.StatusOK, out)
		})
	}
	return paths
}

// brokenWords returns the words whose letters are on more than one line. A phone address is one word up
// to each @ and dot.
const brokenWords = `(() => {
	const broken = [], range = document.createRange();
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let node; (node = walker.nextNode());) {
		if (!node.parentElement.checkVisibility() || node.parentElement.closest("script, .cut, .unseen")) continue;
		for (const { 0: word, index } of node.data.matchAll(/[\p{L}\p{N}_-]+[@.:]?/gu)) {
			range.setStart(node, index + (node.data[index - 1] === "\u00ad" ? 1 : 0)); // the hyphen is before it
			range.setEnd(node, index + word.length);
			const lines = new Set([...range.getClientRects()].map(({ top }) => Math.round(top)));
			if (lines.size > 1 && !word.includes("-")) broken.push(word);
		}
	}
	return broken;
})()`

func TestAddressesBreakBetweenWords(t *testing.T) {
	s := newPageServer(t)
	paths := s.onLongHost(t)
	p := ownTab(t, s, "/error")
	for _, width := range []int{320, 390, 1280} {
		p.resize(width, 844, width < 1000)
		for _, path := range paths {
			p.show(path)
			eval[bool](p, `(document.querySelectorAll("details, [hidden]").forEach((e) => {
				if (e.matches("#sent, #sent [hidden]")) return;
				e.open = true;
			}), true)`)
			if got := eval[[]string](p, brokenWords); len(got) > 0 {
				t.Errorf("%s at %d pixels breaks %q", path, width, got)
			}
		}
		p.show("/long/account")
		if got := eval[float64](p, `(({ top, bottom }, line) => (bottom - top) / line)(
				document.querySelector("#v-address .domain").getBoundingClientRect(),
				parseFloat(getComputedStyle(document.getElementById("v-address")).lineHeight))`); got > 1.1 {
			t.Errorf("at %d pixels, the host of the phone address has %.1f lines", width, got)
		}
		size := `(selector) => parseFloat(getComputedStyle(document.querySelector(selector)).fontSize)`
		if !eval[bool](p, `((size) => size("#v-address") > size("#hello"))(`+size+`)`) {
			t.Errorf("at %d pixels, the greeting is as large as the address", width)
		}
	}
}

// TestEmailBreaks checks line breaks in the addresses that scripts insert.
func TestEmailBreaks(t *testing.T) {
	s := newPageServer(t)
	s.onSignup(reply(200, `{"ok":true,"user":"alex"}`))
	p := openTab(t, s, "/signup.html")
	p.fillAll()
	p.submit()
	p.wait(`!document.getElementById("sent").hidden`)
	if got := eval[string](p, `document.getElementById("sent-to").innerHTML`); got != "alex@<wbr>example.<wbr>org" {
		t.Errorf("the address is %s", got)
	}
}

// TestHostBesideName checks that the host is not cut off and leaves room for the name.
func TestHostBesideName(t *testing.T) {
	s := newPageServer(t)
	s.onLongHost(t)
	p := ownTab(t, s, "/error")
	for _, width := range []int{320, 390, 1280} {
		p.resize(width, 844, width < 1000)
		for _, path := range []string{"/long/login", "/long/signup", "/long/login?lang=ar"} {
			p.show(path)
			for _, size := range []string{"100%", "200%"} {
				got := eval[[]float64](p, `(() => {
					document.documentElement.style.fontSize = "`+size+`";
					const suffix = document.querySelector(".suffix"), input = document.getElementById("user");
					return [suffix.scrollWidth - suffix.clientWidth, input.offsetWidth,
						document.documentElement.scrollWidth];
				})()`)
				if got[0] > 1 || got[1] < 170 || int(got[2]) > width {
					t.Errorf("%s at %d pixels and %s: %g pixels of the host are hidden, the field has %g, the page %g",
						path, width, size, got[0], got[1], got[2])
				}
			}
		}
	}
}
