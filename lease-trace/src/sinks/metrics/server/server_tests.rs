//! Readers of all kinds, over real sockets.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, TcpStream},
    thread,
};

use tokio::runtime;

use super::*;

fn bind() -> Server {
    Server::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("this host has a free port")
}

/// What comes back for each of these requests, and how often the figures were asked for.
fn ask(requests: &'static [&str]) -> (Vec<String>, usize) {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("an event loop");
    runtime.block_on(async {
        let server = bind();
        let at = server.at;
        let mut questions = server.serve().expect("nothing hinders it");
        let readers = tokio::task::spawn_blocking(move || {
            let ask = |request: &&str| {
                let mut stream = TcpStream::connect(at).expect("somebody listens");
                stream.write_all(request.as_bytes()).expect("it reads");
                stream.shutdown(Shutdown::Write).expect("it is open");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).expect("it answers");
                answer
            };
            requests.iter().map(ask).collect()
        });
        tokio::pin!(readers);
        let mut asked = 0;
        loop {
            tokio::select! {
                answers = &mut readers => return (answers.expect("no panic"), asked),
                question = questions.next() => {
                    asked += 1;
                    question.answer(Page {
                        open: Bytes::from_static(b"open\n"),
                        plain: Bytes::from_static(b"plain\n"),
                    });
                }
            }
        }
    })
}

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n";

#[test]
fn the_form_is_the_one_asked_for_and_the_figures_are_read_once() {
    let (answers, asked) = ask(&[
        GET,
        "GET /metrics HTTP/1.1\r\nHost: h\r\n\
         Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.3\r\n\r\n",
        "HEAD /metrics HTTP/1.0\r\n\r\n",
    ]);
    let [plain, open, head] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert!(plain.starts_with("HTTP/1.1 200 OK"), "{plain}");
    assert!(plain.contains("text/plain; version=0.0.4"), "{plain}");
    assert!(plain.ends_with("\r\n\r\nplain\n"), "{plain}");
    assert!(
        open.contains("application/openmetrics-text; version=1.0.0"),
        "{open}"
    );
    assert!(open.ends_with("\r\n\r\nopen\n"), "{open}");
    assert!(
        head.ends_with("\r\n\r\n") && head.contains(" 200 "),
        "{head}"
    );
    assert_eq!(asked, 1);
}

#[test]
fn anything_else_gets_no_figures() {
    let (answers, asked) = ask(&[
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /metrics HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
        "nonsense\r\n\r\n",
    ]);
    let [elsewhere, post, nonsense] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert!(elsewhere.contains(" 404 "), "{elsewhere}");
    assert!(
        post.contains(" 405 ") && post.contains("allow: GET, HEAD"),
        "{post}"
    );
    assert!(nonsense.contains(" 400 "), "{nonsense}");
    assert_eq!(asked, 0);
}

/// Whoever says nothing keeps a place for a while, not for ever, and others are answered.
#[test]
fn the_silent_do_not_hold_up_the_others() {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("an event loop");
    runtime.block_on(async {
        let server = Server {
            patience: Duration::from_millis(100),
            ..bind()
        };
        let at = server.at;
        let mut questions = server.serve().expect("nothing hinders it");
        let silent: Vec<_> = (0..CONNECTIONS)
            .map(|_| TcpStream::connect(at).expect("somebody listens"))
            .collect();
        let reader = thread::spawn(move || {
            let mut stream = TcpStream::connect(at).expect("somebody listens");
            stream.write_all(GET.as_bytes()).expect("it reads");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("it answers");
            answer
        });
        let question = questions.next().await;
        let nothing = Bytes::new();
        question.answer(Page {
            open: nothing.clone(),
            plain: nothing,
        });
        let answered = tokio::task::spawn_blocking(|| reader.join().expect("no panic"));
        assert!(answered.await.expect("no panic").contains(" 200 "));
        drop(silent);
    });
}

#[test]
fn a_place_that_is_taken_says_what_to_do() {
    let first = bind();
    let error = Server::bind(first.at)
        .err()
        .expect("it is taken")
        .to_string();
    let at = first.at.to_string();
    insta::assert_snapshot!(error.replace(&at, "PLACE"), @"cannot offer metrics at PLACE: Address already in use (os error 98); give --metrics a port that nobody listens at");
    let elsewhere = "192.0.2.1:9464".parse().expect("an address");
    let error = Server::bind(elsewhere)
        .err()
        .expect("not of this host")
        .to_string();
    insta::assert_snapshot!(error, @"cannot offer metrics at 192.0.2.1:9464: Cannot assign requested address (os error 99); give --metrics an address that this host has");
}
