package lookup

// Fields is take, for two fields.
func Fields(text string) (username, realm string, err error) {
	fields := [...]field{{name: "username"}, {name: "realm"}}
	err = take(text, false, fields[:])
	return fields[0].value, fields[1].value, err
}
