//! The other side of a connection, in a test's hand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

/// Somebody who is asked by HTTP.
pub(crate) struct Fake {
    listener: TcpListener,
}

/// A request that has come whole.
pub(crate) struct Asked {
    connection: TcpStream,
    /// The first line and the headers, the names in lower case.
    pub(crate) head: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }

    /// Waits for the next request, on a connection of its own.
    pub(crate) fn asked(&self) -> Asked {
        let (connection, _) = self.listener.accept().unwrap();
        let mut reader = BufReader::new(&connection);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            assert!(reader.read_line(&mut line).unwrap() > 0, "the request broke off: {head:?}");
            if line.trim().is_empty() {
                break;
            }
            let line = line.trim();
            head.push(
                line.split_once(": ")
                    .map_or_else(|| line.to_owned(), |(name, value)| format!("{}: {value}", name.to_lowercase())),
            );
        }
        let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).unwrap();
        Asked { connection, head, body }
    }
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// Begins an answer that has no end; it's broken off when the connection is dropped.
    pub(crate) fn begin(mut self, headers: &str, body: &str) -> TcpStream {
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{headers}\r\n");
        self.connection.write_all(format!("{head}{body}").as_bytes()).unwrap();
        self.connection
    }

    /// Answers, and ends the connection.
    pub(crate) fn answer(mut self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n");
        self.connection.write_all(format!("{head}{body}").as_bytes()).unwrap();
    }
}
