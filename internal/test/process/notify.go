package process

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Notifications is the socket of a supervisor such as systemd.
type Notifications struct {
	*net.UnixConn
	Path string
}

// ListenForNotifications returns the socket of a supervisor, whose path is for NOTIFY_SOCKET.
func ListenForNotifications(t *testing.T) Notifications {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	return Notifications{socket, path}
}

// Next returns the next notification that is not one of the watchdog.
func (n Notifications) Next(t *testing.T) string {
	t.Helper()
	for {
		if text := n.Any(t); text != daemon.SdNotifyWatchdog {
			return text
		}
	}
}

// Any returns the next notification.
func (n Notifications) Any(t *testing.T) string {
	t.Helper()
	text := make([]byte, 1024)
	if err := n.SetReadDeadline(time.Now().Add(Timeout)); err != nil {
		t.Fatal(err)
	}
	size, err := n.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(text[:size])
}
