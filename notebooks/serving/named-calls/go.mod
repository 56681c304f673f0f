module noble-runbooks/called

go 1.26.0
