module github.com/sebs-suite/sebs/test/e2e

go 1.26.0
