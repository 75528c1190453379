//! A way to the database server that breaks when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Where the next commit is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Cut {
    /// Nowhere.
    Open,
    /// Before the server sees it.
    Before,
    /// After the server has answered, before the program hears it.
    After,
    /// The same, and nobody gets through from then on.
    AfterForLong,
    /// Nobody gets through.
    Shut,
}

const ALL: [Cut; 5] = [
    Cut::Open,
    Cut::Before,
    Cut::After,
    Cut::AfterForLong,
    Cut::Shut,
];

#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    cut: Arc<AtomicU8>,
}

impl Proxy {
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            cut: Arc::new(AtomicU8::new(0)),
        };
        let answers = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(answers.clone().carry(client, server));
            }
        });
        proxy
    }

    pub(crate) fn set(&self, cut: Cut) {
        self.cut.store(cut as u8, Ordering::SeqCst);
    }

    pub(crate) fn get(&self) -> Cut {
        ALL[usize::from(self.cut.load(Ordering::SeqCst))]
    }

    async fn carry(self, mut client: TcpStream, server: u16) {
        if self.get() == Cut::Shut {
            return;
        }
        let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await else {
            return;
        };
        let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
        loop {
            tokio::select! {
                read = client.read(&mut up) => {
                    let Ok(read @ 1..) = read else { return };
                    if self.get() == Cut::Shut { return }
                    let sent = &up[..read];
                    if sent.windows(6).any(|w| w == b"COMMIT") {
                        match self.get() {
                            Cut::Open | Cut::Shut => {}
                            Cut::Before => return self.set(Cut::Open),
                            cut @ (Cut::After | Cut::AfterForLong) => {
                                server.write_all(sent).await.unwrap();
                                let _ = server.read(&mut down).await;
                                let next = if cut == Cut::After { Cut::Open } else { Cut::Shut };
                                return self.set(next);
                            }
                        }
                    }
                    if server.write_all(sent).await.is_err() { return }
                }
                read = server.read(&mut down) => {
                    let Ok(read @ 1..) = read else { return };
                    if client.write_all(&down[..read]).await.is_err() { return }
                }
            }
        }
    }
}
