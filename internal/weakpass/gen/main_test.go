package main

import (
	"os"
	"strings"
	"testing"
)

func TestListIsUpToDate(t *testing.T) {
	source, err := os.ReadFile("../data/common-passwords.txt")
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile("../passwords.txt")
	if err != nil {
		t.Fatal(err)
	}
	if string(list) != text(strings.Fields(string(source))) {
		t.Error("passwords.txt is not what this program writes; run go generate ./internal/weakpass")
	}
}
