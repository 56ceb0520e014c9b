package broker

import (
	"fmt"

	"github.com/hashicorp/go-hclog"
)

// serverLog gives the embedded server's log to ours. What the server notices in
// its ordinary life is detail to us.
type serverLog struct {
	logger   hclog.Logger
	refusals *refusals
	fatal    chan string // the first fatal message; room for one
}

// Noticef implements the server's Logger.
func (l *serverLog) Noticef(format string, args ...any) { l.logger.Debug(fmt.Sprintf(format, args...)) }

// Warnf implements the server's Logger.
func (l *serverLog) Warnf(format string, args ...any) { l.logger.Warn(fmt.Sprintf(format, args...)) }

// Errorf implements the server's Logger. What a client had no right to is no
// error of ours.
func (l *serverLog) Errorf(format string, args ...any) {
	if refused, ok := refusalOf(format, args); ok {
		l.refusals.add(refused)
		return
	}
	l.logger.Error(fmt.Sprintf(format, args...))
}

// Debugf implements the server's Logger.
func (l *serverLog) Debugf(format string, args ...any) { l.logger.Trace(fmt.Sprintf(format, args...)) }

// Tracef implements the server's Logger.
func (l *serverLog) Tracef(format string, args ...any) { l.logger.Trace(fmt.Sprintf(format, args...)) }

// Fatalf implements the server's Logger. It does not exit: whoever starts the
// server learns of it.
func (l *serverLog) Fatalf(format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	l.logger.Error(message)
	select {
	case l.fatal <- message:
	default:
	}
}
