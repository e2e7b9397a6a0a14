package main

import (
	"bytes"
	"os"
	"testing"
)

func TestTheFileIsWhatTheGeneratorMakes(t *testing.T) {
	have, err := os.ReadFile("../scan_amd64.s")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, generate()) {
		t.Error("scan_amd64.s is not what gen/main.go makes; run go generate ./internal/dictionary")
	}
}

func TestTheTablesOfTheRounds(t *testing.T) {
	for round, want := range []int{0xd8, 0xac, 0x96, 0x9c} {
		if got := table(round); got != want {
			t.Errorf("round %d: %#x, want %#x", round, got, want)
		}
	}
}
