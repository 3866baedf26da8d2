// An echo server on Go's net package, as everybody writes it: a goroutine for each connection, and blocking calls in it.
//
// On one thread at a time (GOMAXPROCS of 1), as the others are. Not io.Copy, which on Linux would splice(2) between two
// sockets by way of a pipe: three times the calls for 64 bytes. TCP_NODELAY is Go's default. Each connection has a buffer of
// 4 KiB, for a goroutine cannot wait for bytes without room for them.
package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintf(os.Stderr, "usage: %s 127.0.0.1:PORT | --version\n", os.Args[0])
		os.Exit(2)
	}
	if os.Args[1] == "--version" {
		fmt.Println(runtime.Version())
		return
	}
	runtime.GOMAXPROCS(1)
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	go func() {
		<-terminated
		os.Exit(0)
	}()
	fmt.Println(listener.Addr())
	for {
		connection, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go echo(connection)
	}
}

func echo(connection net.Conn) {
	defer connection.Close()
	buffer := make([]byte, 4096)
	for {
		length, err := connection.Read(buffer)
		if length > 0 {
			// Writes all of it, or says why not.
			if _, err := connection.Write(buffer[:length]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
