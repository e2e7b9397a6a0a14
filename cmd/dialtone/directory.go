package main

type directoryCommand struct {
	Hook hookCommand `cmd:"" help:"Phone servers that are told at once when an account or a tenant changes."`
}
