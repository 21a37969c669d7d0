//! openraft's messages over the links.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use http_body_util::BodyExt;
use openraft::OptionalSend;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};

use super::links::{LinkError, Links};
use super::message::{
    Answer, AppendAnswer, AppendForm, Ask, SnapshotHead, StreamAnswer, TransferAnswer, VoteAsk, decode, encode,
};
use super::server::{framed, messages};
use crate::id::NodeId;
use crate::raft::{EntryForm, LogId, LogIdForm, Peer, Snapshot, Types, Vote, VoteForm};
use crate::runtime::blocking;
use crate::snapshot::{Chunk, SnapshotFile, SnapshotId};

/// Attempts in a row in which nothing of a snapshot arrived; then openraft may choose another one.
const SNAPSHOT_FAULTS_MAX: usize = 10;

/// Between two of them.
const SNAPSHOT_PAUSE: Duration = Duration::from_millis(200);

/// How long the answer to appended entries may take: it comes after the peer's fsync. openraft grants the heartbeat's
/// interval, which a slow disk exceeds, and a stream torn down for that has to be opened and filled anew.
const APPEND_PATIENCE: Duration = Duration::from_millis(1500);

/// Makes a [`Target`] for each node that openraft talks to.
pub(crate) struct Network {
    pub(crate) links: Arc<Links>,
    pub(crate) node: NodeId,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Target;

    async fn new_client(&mut self, target: u64, peer: &Peer) -> Target {
        Target { links: Arc::clone(&self.links), own: self.node, node: NodeId(target), hint: peer.address.clone() }
    }
}

/// One node as openraft sees it.
pub(crate) struct Target {
    links: Arc<Links>,
    own: NodeId,
    node: NodeId,
    hint: String,
}

impl Target {
    async fn ask(&self, ask: Ask, action: RPCTypes, patience: Duration) -> Result<Answer, RPCError<Types>> {
        let asked = self.links.ask(self.node, Some(&self.hint), ask, patience).await;
        asked.map_err(|error| self.fault(error, action))
    }

    fn fault(&self, error: LinkError, action: RPCTypes) -> RPCError<Types> {
        match error {
            // A peer that refuses will do so again: back off as if it were away.
            LinkError::Unreachable { .. } | LinkError::Refused(_) => Unreachable::new(&error).into(),
            LinkError::Lost(_) => NetworkError::new(&error).into(),
            LinkError::Timeout(timeout) => self.timeout(action, timeout),
        }
    }

    fn timeout(&self, action: RPCTypes, timeout: Duration) -> RPCError<Types> {
        Timeout { action, id: self.own.0, target: self.node.0, timeout }.into()
    }

    async fn ask_vote(
        &self,
        rpc: VoteRequest<Types>,
        wrap: fn(VoteAsk) -> Ask,
        option: &RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let ask = VoteAsk {
            vote: VoteForm::from(&rpc.vote),
            last: rpc.last_log_id.as_ref().map(LogIdForm::from),
            transfer: rpc.leadership_transfer,
        };
        match self.ask(wrap(ask), RPCTypes::Vote, option.soft_ttl()).await? {
            Answer::Vote { vote, granted, last } => {
                Ok(VoteResponse::new(Vote::from(vote), last.map(LogId::from), granted))
            }
            _ => Err(unexpected()),
        }
    }
}

impl RaftNetworkV2<Types> for Target {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        match self.ask(Ask::Append(append_form(rpc)), RPCTypes::AppendEntries, APPEND_PATIENCE).await? {
            Answer::Append(answer) => Ok(match answer {
                AppendAnswer::Success => AppendEntriesResponse::Success,
                AppendAnswer::Partial(last) => AppendEntriesResponse::PartialSuccess(last.map(LogId::from)),
                AppendAnswer::Conflict => AppendEntriesResponse::Conflict,
                AppendAnswer::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote.into()),
            }),
            _ => Err(unexpected()),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            // HTTP/2 keeps the order within a stream, so requests need not wait for answers.
            let waiting = Arc::new(AtomicUsize::new(0));
            let sent = Arc::clone(&waiting);
            let frames = input.map(move |rpc| {
                sent.fetch_add(1, Ordering::Relaxed);
                Ok(framed(&encode(&append_form(rpc))?))
            });
            let opening = option.soft_ttl();
            let body = self.links.open_stream(self.node, Some(&self.hint), "/append", frames, opening).await;
            let body = body.map_err(|error| self.fault(error, RPCTypes::AppendEntries))?;
            let state = Some((Box::pin(messages(body)), waiting));
            let target = &*self;
            let answers = stream::unfold(state, move |state| async move {
                let (mut answers, waiting) = state?;
                match next_answer(&mut answers, &waiting, APPEND_PATIENCE).await {
                    Ok(Some(answer)) => {
                        waiting.fetch_sub(1, Ordering::Relaxed);
                        let answer = stream_result(answer);
                        let state = answer.is_ok().then_some((answers, waiting));
                        Some((Ok(answer), state))
                    }
                    Ok(None) => None,
                    Err(error) => Some((Err(target.fault(error, RPCTypes::AppendEntries)), None)),
                }
            });
            let answers: BoxStream<'s, _> = Box::pin(answers);
            Ok(answers)
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(rpc, Ask::Vote, &option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(rpc, Ask::PreVote, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let sending = self.send_snapshot(vote, snapshot.snapshot, option.soft_ttl());
        tokio::select! {
            biased;
            sent = sending => sent,
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let ask = Ask::Transfer {
            from: VoteForm::from(req.from_leader()),
            to: *req.to_node_id(),
            last: req.last_log_id().map(LogIdForm::from),
        };
        match self.ask(ask, RPCTypes::TransferLeader, option.soft_ttl()).await? {
            Answer::Transfer(TransferAnswer::Accepted) => Ok(Ok(())),
            Answer::Transfer(TransferAnswer::VoteChanged { expected, actual }) => {
                Ok(Err(TransferLeaderError::VoteChanged { expected: expected.into(), actual: actual.into() }))
            }
            Answer::Transfer(TransferAnswer::LogNotFlushed { expected, actual }) => {
                let (expected, actual) = (expected.map(LogId::from), actual.map(LogId::from));
                Ok(Err(TransferLeaderError::LogNotFlushed { expected, actual }))
            }
            _ => Err(unexpected()),
        }
    }
}

impl Target {
    /// Sends a snapshot; when the link breaks, goes on from where the peer has it.
    async fn send_snapshot(
        &self,
        vote: Vote,
        file: SnapshotFile,
        patience: Duration,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let fault = |error| StreamingError::from(self.fault(error, RPCTypes::InstallSnapshot));
        let known = file.clone();
        let id = blocking(move || known.id()).await.map_err(|e| fault(LinkError::Lost(e.to_string())))?;
        let (mut faults, mut arrived) = (0, 0);
        loop {
            let attempt = async {
                let offset = self.snapshot_offset(&id).await?;
                if offset > arrived {
                    (faults, arrived) = (0, offset);
                }
                self.send_rest(&vote, &file, &id, offset, patience).await
            };
            match attempt.await {
                Ok(vote) => return Ok(SnapshotResponse::new(vote)),
                Err(error) if faults >= SNAPSHOT_FAULTS_MAX => return Err(fault(error)),
                Err(error) => {
                    tracing::debug!(peer = %self.node, %error, arrived, "a snapshot has to be taken up again");
                    faults += 1;
                    tokio::time::sleep(SNAPSHOT_PAUSE).await;
                }
            }
        }
    }

    async fn snapshot_offset(&self, id: &SnapshotId) -> Result<u64, LinkError> {
        let ask = Ask::SnapshotOffset { id: id.clone() };
        match self.links.ask(self.node, Some(&self.hint), ask, APPEND_PATIENCE).await? {
            Answer::SnapshotOffset { offset } => Ok(offset),
            _ => Err(LinkError::Lost("the peer answered something else than was asked".to_owned())),
        }
    }

    async fn send_rest(
        &self,
        vote: &Vote,
        file: &SnapshotFile,
        id: &SnapshotId,
        offset: u64,
        patience: Duration,
    ) -> Result<Vote, LinkError> {
        let lost = |e: io::Error| LinkError::Lost(e.to_string());
        let head = SnapshotHead { vote: VoteForm::from(vote), id: id.clone(), offset };
        let head = encode(&head).map_err(lost)?;
        let frames = stream::once(async move { Ok(framed(&head)) }).chain(chunks(file.clone(), offset));
        let exchange = async {
            let opened = self.links.open_stream(self.node, Some(&self.hint), "/snapshot", frames, patience).await?;
            let body = opened.collect().await.map_err(|e| LinkError::Lost(e.to_string()))?;
            decode::<Answer>(&body.to_bytes()).map_err(lost)
        };
        let answer = tokio::time::timeout(patience, exchange).await.unwrap_or(Err(LinkError::Timeout(patience)));
        match answer? {
            Answer::Snapshot { vote } => Ok(vote.into()),
            Answer::Refused(refusal) => Err(refusal.into()),
            _ => Err(LinkError::Lost("the peer answered something else than was asked".to_owned())),
        }
    }
}

fn chunks(file: SnapshotFile, offset: u64) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::unfold(Some((file, offset)), |state| async move {
        let (file, offset) = state?;
        let read = blocking(move || {
            let chunk = Chunk::read(&file, offset)?;
            Ok((file, chunk))
        });
        match read.await {
            Ok((_, None)) => None,
            Ok((file, Some(chunk))) => Some((Ok(framed(&chunk.encode())), Some((file, offset + chunk.len())))),
            Err(error) => Some((Err(error), None)),
        }
    })
}

/// The next answer, as long as it is late only if none is due.
async fn next_answer(
    answers: &mut (impl Stream<Item = io::Result<Bytes>> + Unpin),
    waiting: &AtomicUsize,
    patience: Duration,
) -> Result<Option<StreamAnswer>, LinkError> {
    loop {
        match tokio::time::timeout(patience, answers.next()).await {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => {
                let answer = bytes.and_then(|bytes| decode(&bytes));
                return answer.map(Some).map_err(|e| LinkError::Lost(e.to_string()));
            }
            Err(_) if waiting.load(Ordering::Relaxed) > 0 => return Err(LinkError::Timeout(patience)),
            Err(_) => {}
        }
    }
}

fn stream_result(answer: StreamAnswer) -> StreamAppendResult<Types> {
    match answer {
        StreamAnswer::Stored(last) => Ok(last.map(LogId::from)),
        StreamAnswer::Conflict(at) => Err(StreamAppendError::Conflict(at.into())),
        StreamAnswer::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote.into())),
    }
}

fn append_form(rpc: AppendEntriesRequest<Types>) -> AppendForm {
    AppendForm {
        vote: VoteForm::from(&rpc.vote),
        previous: rpc.prev_log_id.as_ref().map(LogIdForm::from),
        entries: rpc.entries.into_iter().map(EntryForm::from).collect(),
        committed: rpc.leader_commit.as_ref().map(LogIdForm::from),
    }
}

fn unexpected() -> RPCError<Types> {
    NetworkError::from_string("the peer answered something else than was asked").into()
}
