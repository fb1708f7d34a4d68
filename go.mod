module healthd

go 1.26
