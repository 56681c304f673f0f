module example.org/named

go 1.27
