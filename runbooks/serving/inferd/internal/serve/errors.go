package serve

import (
	"context"
	"errors"
	"net/http"

	"google.golang.org/grpc/codes"

	"noble-runbooks/inferd/internal/batch"
)

// badRequest is a request that no server could answer, by the client's fault.
type badRequest struct{ error }

func (b *badRequest) Unwrap() error { return b.error }

// errNoModel is the answer to a name that no model has.
var errNoModel = errors.New("there is no such model")

// statusClientGone is what the log and the metrics say of a client that left; nobody receives it.
const statusClientGone = 499

// status is what an error is in the two protocols.
func status(err error) (int, codes.Code) {
	var bad *badRequest
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge, codes.ResourceExhausted
	case errors.As(err, &bad), errors.Is(err, batch.ErrRows):
		return http.StatusBadRequest, codes.InvalidArgument
	case errors.Is(err, errNoModel):
		return http.StatusNotFound, codes.NotFound
	case errors.Is(err, batch.ErrFull):
		return http.StatusTooManyRequests, codes.ResourceExhausted
	case errors.Is(err, batch.ErrClosed), errors.Is(err, errDown):
		return http.StatusServiceUnavailable, codes.Unavailable
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout, codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return statusClientGone, codes.Canceled
	}
	return http.StatusInternalServerError, codes.Internal
}
