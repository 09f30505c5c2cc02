package storage

import (
	"cmp"
	"context"
	"errors"
	"sync"

	"github.com/sebs-suite/sebs/internal/credentials"
	"github.com/sebs-suite/sebs/platform/awsconfig"
	"github.com/sebs-suite/sebs/platform/nosql"
	"github.com/sebs-suite/sebs/platform/nosql/dynamodb"
	"github.com/sebs-suite/sebs/platform/object"
	"github.com/sebs-suite/sebs/platform/object/awss3"
)

// awsStores are S3 and DynamoDB, by credential and region. Nothing is opened, and no credential needed, before the first
// use.
type awsStores struct {
	opener *awsconfig.Opener

	mu   sync.Mutex
	open map[Scope]*awsStore
}

// awsStore is the pair of stores of one scope.
type awsStore struct {
	objects *Objects
	tables  *Tables
}

func newAWSStores(opener *awsconfig.Opener) *awsStores {
	return &awsStores{opener: opener, open: map[Scope]*awsStore{}}
}

// at returns the stores of a scope.
func (a *awsStores) at(ctx context.Context, scope Scope) (*awsStore, error) {
	scope = Scope{Credential: cmp.Or(scope.Credential, credentials.Default), Region: a.opener.Region(scope.Region)}
	a.mu.Lock()
	defer a.mu.Unlock()
	if have := a.open[scope]; have != nil {
		return have, nil
	}
	opened, err := a.opener.Open(ctx, scope.Credential, scope.Region)
	if err != nil {
		return nil, err
	}
	store := &awsStore{
		objects: &Objects{Store: object.New(awss3.Open(opened)), Driver: "s3", Endpoint: opened.Endpoint, Region: opened.Region},
		tables:  &Tables{Store: nosql.New(dynamodb.OpenAWS(opened)), Driver: "dynamodb", Endpoint: opened.Endpoint, Region: opened.Region},
	}
	a.open[scope] = store
	return store, nil
}

// platform is the entry of the table of platforms. Functions reach the stores by their role, so that they need neither
// keys nor addresses.
func (a *awsStores) platform() Platform {
	return Platform{
		Objects: func(ctx context.Context, scope Scope) (*Objects, error) {
			s, err := a.at(ctx, scope)
			if err != nil {
				return nil, err
			}
			return s.objects, nil
		},
		Tables: func(ctx context.Context, scope Scope) (*Tables, error) {
			s, err := a.at(ctx, scope)
			if err != nil {
				return nil, err
			}
			return s.tables, nil
		},
		Scoped: true, Recorded: true,
	}
}

func (a *awsStores) close(context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var problems []error
	for _, s := range a.open {
		problems = append(problems, s.objects.Store.Close(), s.tables.Store.Close())
	}
	return errors.Join(problems...)
}
