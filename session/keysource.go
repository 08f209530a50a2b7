package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/midair-go/midair/internal/guard"
)

const (
	// keyRetry is how long a store that could not give its secret is left alone.
	keyRetry = time.Second
	// keyPatience is how long requests wait for the secret of the store before they are served with a random key.
	keyPatience = time.Second
)

// pending reports whether the secret of the store is still missing: a cookie that no key opens may be good.
func (k *KeyRing) pending() bool { return k.source != nil && !k.settled.Load() }

// ready waits for the secret of the store, and returns the error of the file or of the store.
func (k *KeyRing) ready(ctx context.Context) error {
	k.keys()
	k.mu.Lock()
	answered := k.asking
	k.mu.Unlock()
	if answered != nil {
		select {
		case <-answered:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return fmt.Errorf("session: %w", ctx.Err())
			}
			return fmt.Errorf("%w: the key for cookies: %w", ErrUnavailable, ctx.Err())
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.file != nil && k.file.err != nil {
		return k.file.err
	}
	if k.err != nil {
		return fmt.Errorf("session: the store has no key: %w", k.err)
	}
	return nil
}

// ask is called with mu held, and asks the store unless an answer came a moment ago. The returned channel is closed after the
// answer, and nil if the store is not being asked.
func (k *KeyRing) ask() <-chan struct{} {
	if k.asking != nil || !k.pending() || !k.tried.IsZero() && time.Since(k.tried) < keyRetry {
		return k.asking
	}
	answered := make(chan struct{})
	k.asking = answered
	go func() { // ends with the answer, for which the store has Options.Timeout
		defer close(answered)
		var first key
		err := guard.Call(func() error {
			secret, err := k.source(context.Background())
			if err == nil {
				first, err = newKey(secret)
			}
			return err
		})
		k.answer(first, err)
	}()
	return answered
}

func (k *KeyRing) answer(first key, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asking, k.tried, k.err = nil, time.Now(), err
	if err == nil {
		k.settled.Store(true)
		if k.told && !k.standIn { // the program has other keys, and other processes have this one
			k.keyset.Remember(first)
			if k.file != nil {
				k.file.drop(k)
			}
		} else {
			k.standIn = false
			k.keyset.Configure(append([]key{first}, k.keyset.Own()...), time.Time{})
		}
	}
	k.tend()
}
