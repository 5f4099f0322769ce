"""Where the engine stores its files: one data folder, readable by its owner alone."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from paintover_engine.errors import Code, PaintoverError


@dataclass(frozen=True)
class DataFolder:
    """The data folder and the names inside it.

    What must survive is `database`, `records`, `publications`, `keyframes`, `uploads` and `results`; the rest can be
    computed again.

    shared: a folder that other machines see, too, for what stages read and write; None: the data folder itself.
    """

    root: Path
    shared: Path | None = None

    @property
    def own(self) -> DataFolder:
        """The folder without what others share."""
        return DataFolder(self.root)

    @property
    def stages(self) -> Path:
        """What holds keyframes and stages' outputs."""
        return self.shared or self.root

    @property
    def database(self) -> Path:
        return self.root / "queue.sqlite"

    @property
    def cache(self) -> Path:
        """Outputs of stages that publish no frames; may be evicted."""
        return self.stages / "cache"

    @property
    def results(self) -> Path:
        """Result frames; they stay until their job is deleted."""
        return self.stages / "results"

    @property
    def views(self) -> Path:
        """Pictures to look at: plates for hosts, thumbnails; may be evicted."""
        return self.root / "views"

    @property
    def records(self) -> Path:
        """One JSON file per job, from which a damaged queue is restored."""
        return self.root / "records"

    @property
    def publications(self) -> Path:
        """One JSON file per job that published an output: by it the job, run again, recognises its files."""
        return self.root / "publications"

    def publication(self, job: int) -> Path:
        """The file of a job in it."""
        return self.publications / f"{job}.json"

    @property
    def keyframes(self) -> Path:
        """Keyframes as the engine read them, one file per digest."""
        return self.stages / "keyframes"

    @property
    def uploads(self) -> Path:
        """Frames that hosts sent, one folder per shot."""
        return self.root / "uploads"

    @property
    def dropped(self) -> Path:
        """Clips that were dropped onto the monitor, one folder each; made with the first."""
        return self.root / "dropped"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def token(self) -> Path:
        return self.root / "token"

    @property
    def worker_token(self) -> Path:
        """The secret of other machines' devices."""
        return self.root / "worker-token"

    @property
    def worker_certificate(self) -> Path:
        """What the engine shows to them, with its key."""
        return self.root / "worker-certificate.pem"

    @property
    def address(self) -> Path:
        """The daemon's address: written once it answers, removed when it stops."""
        return self.root / "engine.json"

    @property
    def monitor(self) -> Path:
        """The port of the queue's page (0: it is not served), that of the daemon before, and the key that signs its
        cookies: so an open page finds the next daemon."""
        return self.root / "monitor.json"

    @property
    def lock(self) -> Path:
        return self.root / "engine.lock"

    @property
    def temporary(self) -> Path:
        """Outputs being written; emptied at start. On the disk of the cache, so that a rename publishes them."""
        return self.stages / "temporary"

    def create(self, private: bool = True) -> None:
        """Creates the folders. private: for the owner alone; else for whom the process's umask says.

        Raises PaintoverError when a folder cannot be created or written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.stages.mkdir(parents=True, exist_ok=True)
            if private and os.name == "posix":
                self.root.chmod(0o700)
            for folder in (
                self.cache, self.results, self.views, self.records, self.keyframes, self.uploads, self.publications,
                self.temporary, self.root / "temporary",
            ):  # fmt: skip
                folder.mkdir(exist_ok=True)
            with tempfile.TemporaryFile(dir=self.temporary):
                pass  # mode bits do not show that a disk is mounted read-only
        except OSError as error:
            raise self.unwritable(error) from error

    def unwritable(self, error: OSError) -> PaintoverError:
        """What to say where the folder cannot be made or written."""
        at = f" or its store {self.shared}" if self.shared else ""
        return PaintoverError(
            Code.PERMISSION_DENIED,
            f"The data folder {self.root}{at} cannot be written ({error.strerror}); "
            "free it or choose another with --data-dir.",
        )


def default_data_folder() -> Path:
    """$PAINTOVER_DATA, else the platform's per-user data folder."""
    return Path(os.environ.get("PAINTOVER_DATA") or platformdirs.user_data_dir("paintover", appauthor=False))
