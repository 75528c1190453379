//! A way to the broker on which it can be made to answer as in its first moments: it serves, and names nobody as a broker.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Metadata among the requests, <https://kafka.apache.org/protocol#protocol_api_keys>.
const METADATA: i16 = 3;
/// From this version of it on lengths are variable.
const FLEXIBLE: i16 = 9;

/// A broker is let in about that long after it serves.
const AWHILE: Duration = Duration::from_secs(1);

/// Versions of the requests for metadata on their way, by what their answers are known.
type Asked = Arc<Mutex<HashMap<i32, i16>>>;

#[derive(Clone)]
pub(crate) struct Young {
    pub(crate) port: u16,
    young: Arc<AtomicBool>,
    /// Answers without brokers since it began again.
    told: Arc<AtomicU32>,
    /// Breaks all connections.
    cut: watch::Sender<()>,
}

impl Young {
    /// To the broker at `port`, as old as it is.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let this = Self {
            port: listener.local_addr().unwrap().port(),
            young: Arc::default(),
            told: Arc::default(),
            cut: watch::Sender::new(()),
        };
        let way = this.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (way, mut cut) = (way.clone(), way.cut.subscribe());
                tokio::spawn(async move {
                    tokio::select! {
                        _ = way.carry(client, port) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        this
    }

    /// The broker is started again: all connections break, and it is young for a while. Answers without a broker that it gave.
    pub(crate) async fn begin_again(&self) -> u32 {
        self.told.store(0, Ordering::SeqCst);
        self.young.store(true, Ordering::SeqCst);
        self.cut.send_replace(());
        tokio::time::sleep(AWHILE).await;
        self.young.store(false, Ordering::SeqCst);
        self.told.load(Ordering::SeqCst)
    }

    async fn carry(&self, client: TcpStream, port: u16) -> io::Result<()> {
        let server = TcpStream::connect(("127.0.0.1", port)).await?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let asked = Asked::default();
        tokio::try_join!(
            requests(from_client, to_server, &asked),
            self.answers(from_server, to_client, &asked),
        )?;
        Ok(())
    }

    async fn answers(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        asked: &Asked,
    ) -> io::Result<()> {
        loop {
            let mut answer = frame(&mut from).await?;
            let id = i32::from_be_bytes(answer[..4].try_into().unwrap());
            let version = asked.lock().unwrap().remove(&id);
            if let Some(version) = version.filter(|_| self.young.load(Ordering::SeqCst)) {
                assert!(version >= FLEXIBLE, "version {version} of metadata");
                answer = without_brokers(&answer);
                self.told.fetch_add(1, Ordering::SeqCst);
            }
            send(&mut to, &answer).await?;
        }
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: &Asked,
) -> io::Result<()> {
    loop {
        let request = frame(&mut from).await?;
        let number = |at: usize| i16::from_be_bytes(request[at..at + 2].try_into().unwrap());
        if number(0) == METADATA {
            let id = i32::from_be_bytes(request[4..8].try_into().unwrap());
            asked.lock().unwrap().insert(id, number(2));
        }
        send(&mut to, &request).await?;
    }
}

async fn frame(from: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let mut frame = vec![0; length as usize];
    from.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn send(to: &mut OwnedWriteHalf, frame: &[u8]) -> io::Result<()> {
    to.write_u32(u32::try_from(frame.len()).unwrap()).await?;
    to.write_all(frame).await
}

/// The same answer with an empty list of brokers: after the id of the request, an empty list of tags and the time to hold back.
fn without_brokers(answer: &[u8]) -> Vec<u8> {
    const LIST: usize = 4 + 1 + 4;
    let mut at = LIST;
    let count = number(answer, &mut at) - 1;
    for _ in 0..count {
        // Id; host; port; rack, if there is one; no tags.
        at += 4;
        at += number(answer, &mut at) - 1;
        at += 4;
        at += number(answer, &mut at).saturating_sub(1);
        assert_eq!(number(answer, &mut at), 0, "no tags of a broker");
    }
    [&answer[..LIST], &[1], &answer[at..]].concat()
}

/// An unsigned number of variable length.
fn number(bytes: &[u8], at: &mut usize) -> usize {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[*at];
        *at += 1;
        number |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}
