package terminal

import (
	"errors"
	"fmt"

	"dialtone/internal/fault"
)

// fieldNames are the fields whose errors say what is wrong with them without their names.
var fieldNames = map[string]string{"user": "the user name", "name": "the display name", "email": "the e-mail address"}

// NameField returns an error that names the field that it is about.
func NameField(err error) error {
	if fe, ok := errors.AsType[*fault.Error](err); ok && fieldNames[fe.Field] != "" {
		return fmt.Errorf("%s %w", fieldNames[fe.Field], err)
	}
	return err
}
