package flags

import (
	"errors"
	"fmt"
	"maps"

	"github.com/midair-go/midair/flags/internal/flagd"
	"github.com/open-feature/go-sdk/openfeature"
)

// This file has the answers and the errors of evaluations in the terms of OpenFeature.

// detail returns a value with all that OpenFeature wants to know about it.
func detail[T any](key string, v T, a answer) openfeature.GenericResolutionDetail[T] {
	d := openfeature.GenericResolutionDetail[T]{Value: v}
	d.FlagMetadata, d.Variant = maps.Clone(a.meta()), a.name
	if a.err != nil {
		d.Reason = openfeature.ErrorReason
		d.ResolutionError = resolution(key, a)
		return d
	}
	d.Reason = a.reason
	if a.variant != nil {
		d.Variant = a.variant.Name
	}
	return d
}

func resolution(key string, a answer) openfeature.ResolutionError {
	err := a.err
	message := fmt.Sprintf("flag %s: %v", key, err)
	var fault *Error
	switch {
	case a.code == openfeature.FlagNotFoundCode, err == errNotFound:
		return openfeature.NewFlagNotFoundResolutionError(message)
	case a.code == openfeature.TypeMismatchCode, err == errType:
		return openfeature.NewTypeMismatchResolutionError(message)
	case a.code == openfeature.TargetingKeyMissingCode:
		return openfeature.NewTargetingKeyMissingResolutionError(message)
	case a.code == openfeature.ParseErrorCode, errors.Is(err, flagd.ErrRule), errors.As(err, &fault):
		return openfeature.NewParseErrorResolutionError(message)
	case a.code == openfeature.InvalidContextCode:
		return openfeature.NewInvalidContextResolutionError(message)
	case a.code == openfeature.ProviderFatalCode:
		return openfeature.NewProviderFatalResolutionError(message)
	case a.code == openfeature.ProviderNotReadyCode, err == errNotReady:
		return openfeature.NewProviderNotReadyResolutionError(message)
	}
	return openfeature.NewGeneralResolutionError(message, err)
}
