package session

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

const (
	// secretID is the id of the record with the secret of a store that has no Secret method.
	secretID = "secret"
	// secretYears is how long that record lives: for ever, in milliseconds that every engine can hold.
	secretYears = 100
	// secretTries is how often the record is looked for while other processes make it.
	secretTries = 3
)

// A bounded store calls the program's store within Options.Timeout, counts the calls, and marks the errors: as ErrUnavailable
// if the store is to blame.
type bounded struct {
	store   Store
	timeout time.Duration
	journal *journal
}

var (
	_ Store        = (*bounded)(nil)
	_ secretKeeper = (*bounded)(nil)
)

// call runs fn, which calls the store. If the store does not heed the context, call waits all the same, since nothing can end a
// call from outside.
func (b *bounded) call(ctx context.Context, fn func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	err := fn(limited)
	switch {
	case err == nil || errors.Is(err, ErrNotFound):
		return err
	case errors.Is(err, ErrConflict):
		b.journal.conflicts.Add(1)
		return err
	case errors.Is(ctx.Err(), context.Canceled): // the caller has lost interest: the store may be well
		return marked(context.Canceled, err)
	}
	b.journal.failures.Add(1)
	if limited.Err() != nil {
		err = marked(context.DeadlineExceeded, err)
	}
	return marked(ErrUnavailable, err)
}

// marked makes err wrap the sentinel too.
func marked(sentinel, err error) error {
	if errors.Is(err, sentinel) {
		return err
	}
	return fmt.Errorf("%w: %w", sentinel, err)
}

// Create implements [Store].
func (b *bounded) Create(ctx context.Context, id string, data []byte, expires time.Time) (rev uint64, err error) {
	b.journal.writes.Add(1)
	err = b.call(ctx, func(ctx context.Context) error {
		rev, err = b.store.Create(ctx, id, data, expires)
		return err
	})
	return rev, err
}

// Load implements [Store].
func (b *bounded) Load(ctx context.Context, id string) (rec Record, err error) {
	b.journal.loads.Add(1)
	err = b.call(ctx, func(ctx context.Context) error {
		rec, err = b.store.Load(ctx, id)
		return err
	})
	return rec, err
}

// Swap implements [Store].
func (b *bounded) Swap(ctx context.Context, id string, rev uint64, data []byte, expires time.Time) (next uint64, err error) {
	b.journal.writes.Add(1)
	err = b.call(ctx, func(ctx context.Context) error {
		next, err = b.store.Swap(ctx, id, rev, data, expires)
		return err
	})
	return next, err
}

// Touch implements [Store].
func (b *bounded) Touch(ctx context.Context, id string, expires time.Time) error {
	b.journal.writes.Add(1)
	return b.call(ctx, func(ctx context.Context) error { return b.store.Touch(ctx, id, expires) })
}

// Delete implements [Store].
func (b *bounded) Delete(ctx context.Context, id string) error {
	b.journal.writes.Add(1)
	return b.call(ctx, func(ctx context.Context) error { return b.store.Delete(ctx, id) })
}

// Secret returns the secret shared by all processes on the store: from the store's own method, or else from a record, which the
// first process makes.
func (b *bounded) Secret(ctx context.Context) (secret []byte, err error) {
	if keeper, ok := b.store.(secretKeeper); ok {
		err = b.call(ctx, func(ctx context.Context) error {
			secret, err = keeper.Secret(ctx)
			return err
		})
		return secret, err
	}
	for range secretTries {
		rec, err := b.Load(ctx, secretID)
		if err == nil {
			return rec.Data, nil
		}
		if !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		secret = []byte(rand.Text() + rand.Text())
		_, err = b.Create(ctx, secretID, secret, time.Now().AddDate(secretYears, 0, 0))
		if err == nil {
			return secret, nil
		}
		if !errors.Is(err, ErrConflict) {
			return nil, err
		}
	}
	return nil, marked(ErrUnavailable, errors.New("the record with the secret is made and not found"))
}
