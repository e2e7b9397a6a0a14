package delivery

import (
	"context"
	"errors"
	"fmt"

	"dialtone/internal/mailmsg"
)

// Shelf is a Box that can be looked at.
type FilePeeker interface {
	// Peek is the bytes of a message, wherever it lies. It fails with ErrNoFile.
	Peek(id mailmsg.ID) ([]byte, error)
}

// Verify says which messages of a node are still to be sent, by the store, and have no file. It changes nothing, and a running server
// may go on.
func Verify(ctx context.Context, store Store, shelf FilePeeker, node string) (faults []string, err error) {
	err = store.EachDelivery(ctx, []State{Waiting, Deferred}, func(d Delivery) error {
		if d.Node != node {
			return nil
		}
		_, err := shelf.Peek(d.Message)
		if err == nil {
			return nil
		}
		// It may have been sent since it was read.
		if now, again := store.Delivery(ctx, d.Message); again == nil && !now.State.Open() {
			return nil
		}
		if errors.Is(err, ErrNoFile) {
			err = errors.New("its file is gone")
		}
		faults = append(faults, fmt.Sprintf("message %s is to be sent: %v", d.Message, err))
		return nil
	})
	return faults, err
}
