use super::*;
use rexec_api::files::UploadState;
use rexec_api::guest::UploadAnswer;
use rexec_channel::PieceSpec;
use uuid::Uuid;

fn sample(bytes: u32) -> Vec<u8> {
    (0..bytes).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

async fn piece(bench: &Bench, path: &str, spec: PieceSpec, content: &[u8]) -> Result<UploadAnswer, ChannelError> {
    let mut sending = bench.client.upload_piece(path, None, spec).await?;
    sending.send(Bytes::copy_from_slice(content)).await?;
    sending.finish().await
}

/// How far the upload has come, once whoever wrote to it before has let go.
async fn settled(bench: &Bench, path: &str, upload: Uuid, total: u64) -> u64 {
    loop {
        let state = bench.client.upload_state(path, upload).await.unwrap();
        let spec = PieceSpec { upload, offset: state.offset, total };
        match piece(bench, path, spec, b"").await {
            Ok(answer) => return answer.state.offset,
            Err(ChannelError::Guest(error)) => assert_eq!(error.code, ErrorCode::UploadConflict),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn an_upload_that_is_cut_goes_on_where_it_stood() {
    with_configured(|bench| async move {
        let (path, upload) = (bench.path("deep/file"), Uuid::new_v4());
        let content = sample(3_000_000);
        let total = content.len() as u64;
        put_old(&bench, &path).await;
        let (mut offset, mut cuts) = (0, 0);
        while cuts < 20 {
            let spec = PieceSpec { upload, offset, total };
            let mut sending = bench.client.upload_piece(&path, None, spec).await.unwrap();
            let begin = offset as usize;
            let end = (begin + 17_000 * (cuts + 1)).min(content.len() - 1);
            sending.send(Bytes::copy_from_slice(&content[begin..end])).await.unwrap();
            drop(sending);
            cuts += 1;
            offset = settled(&bench, &path, upload, total).await;
            assert_eq!(std::fs::read(&path).unwrap(), b"old", "untouched until the whole is there");
        }
        let spec = PieceSpec { upload, offset, total };
        let answer = piece(&bench, &path, spec, &content[offset as usize..]).await.unwrap();
        assert_eq!(answer.state, UploadState { offset: total, done: true });
        assert!(std::fs::read(&path).unwrap() == content);
        // The answer was lost: the piece is sent again.
        let again = piece(&bench, &path, spec, &content[offset as usize..]).await.unwrap();
        assert_eq!(again.file.unwrap().size, total);
        assert!(bench.client.upload_state(&path, upload).await.unwrap().offset == total);
        let left: Vec<_> = std::fs::read_dir(bench.real("deep")).unwrap().collect();
        assert_eq!(left.len(), 1, "no part is left");
    });
}

async fn put_old(bench: &Bench, path: &str) {
    super::files::put(bench, path, None, b"old").await;
}

#[test]
fn a_piece_in_the_wrong_place_is_refused_and_told_the_right_one() {
    with_configured(|bench| async move {
        let (path, upload) = (bench.path("file"), Uuid::new_v4());
        let at = |offset| PieceSpec { upload, offset, total: 10 };
        let refused = async |offset, content: &'static [u8]| match piece(&bench, &path, at(offset), content).await {
            Err(ChannelError::Guest(error)) => (error.code, error.number),
            _ => panic!("not refused"),
        };
        assert_eq!(refused(3, b"345").await, (ErrorCode::UploadConflict, Some(0)));
        let first = piece(&bench, &path, at(0), b"01234").await.unwrap();
        assert_eq!(first.state, UploadState { offset: 5, done: false });
        assert!(first.file.is_none());
        for offset in [0, 4, 6] {
            assert_eq!(refused(offset, b"xx").await, (ErrorCode::UploadConflict, Some(5)));
        }
        assert_eq!(refused(5, b"567890").await.0, ErrorCode::InvalidRequest);
        assert_eq!(bench.client.upload_state(&path, upload).await.unwrap().offset, 5);
        // Two at once: one has it, the other waits its turn.
        let mut holding = bench.client.upload_piece(&path, None, at(5)).await.unwrap();
        holding.send(Bytes::from(vec![b'5'])).await.unwrap();
        let (code, offset) = loop {
            // Until the first has been let in.
            match piece(&bench, &path, at(5), b"").await {
                Err(ChannelError::Guest(error)) => break (error.code, error.number),
                other => drop(other.unwrap()),
            }
        };
        assert_eq!((code, offset), (ErrorCode::UploadConflict, Some(5)));
        holding.send(Bytes::from_static(b"6789")).await.unwrap();
        assert!(holding.finish().await.unwrap().state.done);
        assert_eq!(std::fs::read(&path).unwrap(), b"0123456789");
    });
}

#[test]
fn an_upload_keeps_to_the_total_it_was_begun_with() {
    with_configured(|bench| async move {
        let (path, upload) = (bench.path("file"), Uuid::new_v4());
        let with = async |offset, total, content: &'static [u8]| {
            piece(&bench, &path, PieceSpec { upload, offset, total }, content).await
        };
        with(0, 10, b"01234").await.unwrap();
        for total in [3, 5, 9, 11] {
            assert_eq!(code(with(5, total, b"").await), ErrorCode::InvalidRequest, "{total}");
        }
        assert!(with(5, 10, b"56789").await.unwrap().state.done);
        assert_eq!(std::fs::read(&path).unwrap(), b"0123456789");
        let mut value = [0; 8];
        let left = rustix::fs::getxattr(&path, "user.rexec.total", value.as_mut_slice());
        assert!(left.is_err(), "{left:?}");
    });
}

#[test]
fn an_upload_is_dropped_and_an_empty_one_is_whole_at_once() {
    with_configured(|bench| async move {
        let (path, upload) = (bench.path("file"), Uuid::new_v4());
        piece(&bench, &path, PieceSpec { upload, offset: 0, total: 10 }, b"01234").await.unwrap();
        bench.client.drop_upload(&path, upload).await.unwrap();
        bench.client.drop_upload(&path, upload).await.unwrap();
        assert_eq!(bench.client.upload_state(&path, upload).await.unwrap(), UploadState::default());
        let empty = Uuid::new_v4();
        let answer = piece(&bench, &path, PieceSpec { upload: empty, offset: 0, total: 0 }, b"").await.unwrap();
        assert!(answer.state.done && std::fs::read(&path).unwrap().is_empty());
        let none = bench.client.upload_state(&bench.path("no/such/place"), upload).await.unwrap();
        assert_eq!(none, UploadState::default());
    });
}
