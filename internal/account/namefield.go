package account

import (
	"errors"
	"fmt"

	"dialtone/internal/fault"
)

// fieldNames are the fields whose error messages lack the name of the field, such as "is too long".
var fieldNames = map[string]string{"user": "the user name", "name": "the display name", "email": "the e-mail address"}

// NameField puts the name of the field in front of an error about a field of an account.
func NameField(err error) error {
	if fe, ok := errors.AsType[*fault.Error](err); ok && fieldNames[fe.Field] != "" {
		return fmt.Errorf("%s %w", fieldNames[fe.Field], err)
	}
	return err
}
