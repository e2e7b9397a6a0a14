package delivery

import (
	"context"
	"errors"
	"fmt"

	"dialtone/internal/mailmsg"
)

// FilePeeker reads message files without moving them.
type FilePeeker interface {
	// Peek returns the bytes of a message, in the pickup directory or in badmail/. It fails with
	// ErrNoFile.
	Peek(id mailmsg.ID) ([]byte, error)
}

// Verify returns a sentence for each message of a node that is still to be sent according to
// the store but has no file. It changes nothing and can run while a server runs.
func Verify(ctx context.Context, store Store, files FilePeeker, node string) (problems []string, err error) {
	err = store.EachDelivery(ctx, []State{Waiting, Deferred}, func(d Delivery) error {
		if d.Node != node {
			return nil
		}
		_, err := files.Peek(d.Message)
		if err == nil {
			return nil
		}
		// It may have been sent after it was listed.
		if now, again := store.Delivery(ctx, d.Message); again == nil && !now.State.Open() {
			return nil
		}
		if errors.Is(err, ErrNoFile) {
			err = errors.New("its file is gone")
		}
		problems = append(problems, fmt.Sprintf("message %s is to be sent: %v", d.Message, err))
		return nil
	})
	return problems, err
}
