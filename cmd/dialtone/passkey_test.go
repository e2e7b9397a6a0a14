package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
)

// authenticator is a virtual authenticator in a tab of Chromium. It verifies the user immediately.
type authenticator struct {
	b  *browser
	id webauthn.AuthenticatorID
}

func newAuthenticator(b *browser) authenticator {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, webauthn.Enable, webauthn.EnableParams{})
	b.succeed(err)
	result, err := chromedp.Call(b.ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{
		Options: &webauthn.VirtualAuthenticatorOptions{
			Protocol:  webauthn.AuthenticatorProtocolCtap2,
			Transport: webauthn.AuthenticatorTransportInternal, HasResidentKey: true,
			HasUserVerification: true, AutomaticPresenceSimulation: true, IsUserVerified: true,
		},
	})
	b.succeed(err)
	return authenticator{b, result.AuthenticatorID}
}

func (a authenticator) setVerified(yes bool) {
	a.b.t.Helper()
	_, err := chromedp.Call(a.b.ctx, webauthn.SetUserVerified,
		webauthn.SetUserVerifiedParams{AuthenticatorID: a.id, IsUserVerified: yes})
	a.b.succeed(err)
}

func (a authenticator) passkeys() []*webauthn.Credential {
	a.b.t.Helper()
	result, err := chromedp.Call(a.b.ctx, webauthn.GetCredentials,
		webauthn.GetCredentialsParams{AuthenticatorID: a.id})
	a.b.succeed(err)
	return result.Credentials
}

// change changes properties of the only passkey.
func (a authenticator) change(p webauthn.SetCredentialPropertiesParams) {
	a.b.t.Helper()
	list := a.passkeys()
	if len(list) != 1 {
		a.b.t.Fatalf("the authenticator has %d passkeys", len(list))
	}
	p.AuthenticatorID, p.CredentialID = a.id, list[0].CredentialID
	_, err := chromedp.Call(a.b.ctx, webauthn.SetCredentialProperties, p)
	a.b.succeed(err)
}

// TestPasskey tests all steps of a person with a passkey, in Chromium with its virtual
// authenticator.
func TestPasskey(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := start(t, launch{data: data, flags: []string{"--dev"}})
	tap := newTap(t, p.address)
	command(t, "tenant", "set", "localhost", "--public-url", tap.base, "--product", "Example Phones", "--data", data)
	waitUntil(t, func() bool { return strings.Contains(tap.page(t, "/"), "Example Phones") })
	b := newBrowser(t, tap.base)
	device := newAuthenticator(b)
	// The virtual authenticator immediately chooses a passkey for autofill, so only one step offers
	// it there.
	_, err := chromedp.Call(b.ctx, page.AddScriptToEvaluateOnNewDocument,
		page.AddScriptToEvaluateOnNewDocumentParams{Source: `if (location.search !== "?lang=en")
			window.PublicKeyCredential && (PublicKeyCredential.isConditionalMediationAvailable = async () => false);`})
	b.succeed(err)
	signedIn := `location.pathname === "/account.html" && document.readyState === "complete"`
	ready := `document.getElementById("submit")?.disabled === false`
	signOut := func() {
		b.t.Helper()
		b.visit("/account.html")
		b.click(`form[action="/signout.ashx"] button`)
		b.until(`location.pathname === "/login.html" && ` + ready)
	}
	refused := func(words string) {
		b.t.Helper()
		b.click("#passkey")
		b.until(`summary.checkVisibility() && summary.innerText.includes(` + quoted(words) + `)`)
	}

	b.step("A person has an account", func() {
		b.signUp("alex")
		b.until(`!sent.hidden`)
		b.visit("/dev/mail")
		b.click(`a[href*="/activate.ashx?token="]`)
		b.until(`document.querySelector("h1").textContent === "Account activated"`)
		b.signIn("alex", secretWords)
		b.until(signedIn)
	})
	b.step("The account page leads to the list of passkeys, which is empty", func() {
		b.click(`a[href="/passkeys.html"]`)
		b.until(`location.pathname === "/passkeys.html" && ` + ready)
		b.want(`document.querySelectorAll("[data-id]").length`, "0")
		b.want(`document.getElementById("unsupported").hidden`, "true")
		b.check("passkeys-none")
		b.shot("passkeys-none")
	})
	b.step("Adding one needs the password, and a person who is verified", func() {
		b.click("#submit")
		b.until(`/current password/.test(document.getElementById("current-error").textContent)`)
		b.fill("current", "not the pass phrase")
		b.click("#submit")
		b.until(`/not your current password/.test(document.getElementById("current-error").textContent)`)
		device.setVerified(false)
		b.fill("current", secretWords, "name", "My laptop")
		b.click("#submit")
		b.until(`summary.checkVisibility() && /Nothing was changed/.test(summary.innerText)`)
		b.check("passkeys-cancelled")
		device.setVerified(true)
		b.click("#submit")
		b.until(`added?.checkVisibility() && document.querySelectorAll("[data-id]").length === 1`)
		b.want(`document.querySelector(".sessions strong").textContent`, "My laptop")
		b.until(ready)
		b.check("passkeys")
		b.shot("passkeys")
	})
	b.step("The authenticator refuses to make a second one", func() {
		b.fill("current", secretWords)
		b.click("#submit")
		b.until(`summary.checkVisibility() && /already has a passkey/.test(summary.innerText)`)
	})
	noticed := func(subject string) bool {
		files, _ := filepath.Glob(filepath.Join(data, "pickup", "*.eml"))
		return slices.ContainsFunc(files, func(file string) bool {
			text, _ := os.ReadFile(file)
			return strings.Contains(string(text), "\r\nSubject: "+subject) &&
				strings.Contains(string(text), tap.base+"/not-me.html?token=")
		})
	}
	b.step("A message tells the owner", func() {
		waitUntil(t, func() bool { return noticed("A passkey was added to your account") })
	})
	b.step("The passkey signs the person in", func() {
		signOut()
		b.check("login-passkey")
		b.shot("login-passkey")
		b.click("#passkey")
		b.until(signedIn)
		b.want(`document.querySelector(".who").innerText.includes("alex")`, "true")
		b.visit("/passkeys.html")
		b.until(`/Last used/.test(document.querySelector(".sessions").innerText)`)
	})
	b.step("So does choosing it where the browser offers user names", func() {
		signOut()
		b.visit("/login.html?lang=en")
		b.until(signedIn)
	})
	b.step("A passkey that became one that is synchronized still works", func() {
		signOut()
		yes := true
		device.change(webauthn.SetCredentialPropertiesParams{BackupEligibility: &yes, BackupState: &yes})
		b.click("#passkey")
		b.until(signedIn)
		b.visit("/passkeys.html")
		b.until(`/several devices/.test(document.querySelector(".sessions").innerText)`)
	})
	b.step("A person who is not verified, or cancels, can try again", func() {
		signOut()
		device.setVerified(false)
		refused("No passkey was used")
		b.check("login-passkey-cancelled")
		device.setVerified(true)
	})
	b.step("A copy of the passkey is refused", func() {
		low := 1.0
		count := device.passkeys()[0].SignCount
		device.change(webauthn.SetCredentialPropertiesParams{SignCount: &low})
		refused("There may be a copy")
		high := float64(count) + 10
		device.change(webauthn.SetCredentialPropertiesParams{SignCount: &high})
		b.click("#passkey")
		b.until(signedIn)
	})
	b.step("The passkey gets another name, also without scripts", func() {
		b.visit("/passkeys.html")
		b.until(ready)
		b.do(`document.querySelector(".sessions details").open = true;
			document.querySelector(".sessions [name=name]").value = "Álex’ key"`)
		b.check("passkeys-rename")
		b.click(`.sessions form button`)
		b.until(`renamed?.checkVisibility() && document.querySelector(".sessions strong").textContent === "Álex’ key"`)
	})
	b.step("Removing it can be cancelled, and needs the password or the passkey", func() {
		b.until(ready)
		b.click("[data-id]")
		b.until(`document.activeElement.id === "current" && !instead.hidden`)
		b.check("passkeys-remove")
		b.shot("passkeys-remove")
		b.click("#cancel")
		b.until(`instead.hidden && document.activeElement.matches("[data-id]")`)
		b.click("[data-id]")
		b.click("#by-passkey")
		b.until(`removed?.checkVisibility() && !document.querySelector("[data-id]")`)
	})
	b.step("Then it signs nobody in, and the password still does", func() {
		waitUntil(t, func() bool { return noticed("A passkey was removed from your account") })
		signOut()
		refused("not known here")
		b.signIn("alex", secretWords)
		b.until(signedIn)
	})
	b.step("Removing works with the password too", func() {
		b.visit("/passkeys.html")
		b.until(ready)
		b.fill("current", secretWords, "name", "Second")
		b.click("#submit")
		b.until(`added?.checkVisibility() && document.querySelectorAll("[data-id]").length === 1 && ` + ready)
		b.click("[data-id]")
		b.fill("current", secretWords)
		b.click("#submit")
		b.until(`removed?.checkVisibility() && !document.querySelector("[data-id]")`)
	})
	if n := b.prompts(); n != 0 {
		t.Errorf("the browser opened its password prompt %d times", n)
	}
	b.end()
	tap.neverCarried(t, secretWords, "not the pass phrase")
}
