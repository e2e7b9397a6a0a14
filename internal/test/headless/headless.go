// Package headless starts Chromium for the tests of pages.
package headless

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"

	"github.com/chromedp/chromedp"
)

// The names of the programs in the PATH.
const (
	// Chromium is the browser that people use.
	Chromium = "chromium"
	// Shell is Debian's build without a window. It has the same engine and takes about 60 % of the
	// processor time.
	Shell = "chromium-headless-shell"
)

// NoFrames are flags for tests that do not look at frames. The browser then lays pages out and runs their
// scripts, but draws nothing unless a screenshot is taken, which saves about half of the processor time of a
// page. So requestAnimationFrame is never called, nothing moves, and layout shifts are not reported.
var NoFrames = []chromedp.ExecAllocatorOption{
	chromedp.Flag("disable-threaded-compositing", true), chromedp.Flag("force-prefers-reduced-motion", true),
}

// Start starts a program, with flags besides those of this package. Where there is no Shell, it starts
// Chromium. It returns the context of the first tab, from which others may be opened, and a function that
// ends the browser and removes its files.
func Start(program string, flags ...chromedp.ExecAllocatorOption) (context.Context, func(), error) {
	path, err := exec.LookPath(program)
	if err != nil {
		path, err = exec.LookPath(Chromium)
	}
	if err != nil {
		return nil, nil, errors.New("this test needs Chromium: make test installs it")
	}
	dir, err := os.MkdirTemp("", "dialtone-chromium-")
	if err != nil {
		return nil, nil, err
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(dir),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.WindowSize(1280, 900),
		// No page is used for long enough that optimized code or a process in reserve would pay.
		chromedp.Flag("js-flags", "--no-opt"),
		chromedp.Flag("disable-features", "Translate,BlinkGenPropertyTrees,SpareRendererForSitePerProcess"))
	allocator, endProcess := chromedp.NewExecAllocator(context.Background(), append(options, flags...)...)
	tab, closeTab := chromedp.NewContext(allocator)
	end := func() {
		closeTab()
		endProcess()
		_ = os.RemoveAll(dir)
	}
	if err := chromedp.Do(tab, chromedp.Navigate("about:blank")); err != nil {
		end()
		return nil, nil, err
	}
	return tab, end, nil
}
