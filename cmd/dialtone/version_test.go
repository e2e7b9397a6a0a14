package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestVersion(t *testing.T) {
	platform := runtime.GOOS + "/" + runtime.GOARCH
	for want, info := range map[string]debug.BuildInfo{
		"dialtone unknown: built from a source tree of unknown revision, schema 8, go1.26.8, " + platform: {
			GoVersion: "go1.26.8", Main: debug.Module{Version: "(devel)"},
		},
		"dialtone 0123456789ab: revision 0123456789ab of 2026-03-01T12:00:00Z, modified, schema 8, go1.27, " +
			platform: {
			GoVersion: "go1.27",
			Settings: []debug.BuildSetting{
				{Key: "vcs.revision", Value: "0123456789abcdef0123"}, {Key: "vcs.time", Value: "2026-03-01T12:00:00Z"},
				{Key: "vcs.modified", Value: "true"},
			},
		},
		"dialtone v1.2.3: schema 8, go1.27, " + platform: {
			GoVersion: "go1.27", Main: debug.Module{Version: "v1.2.3"},
		},
	} {
		if got := versionOf(&info, 8); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
