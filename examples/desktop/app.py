"""A small desktop app on a pair: python examples/desktop/app.py PAIR

Needs PySide6 (pip install PySide6-Essentials). What it shows of embedding edgespec: the model loads while the window is
open already, text streams without freezing it, Stop stops, tokens/s are live, and tokens that came from the draft are
tinted. Freeze it with: pyinstaller examples/desktop/app.py --collect-all openvino --collect-all openvino_genai
--collect-all openvino_tokenizers
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from pathlib import Path

from PySide6.QtCore import QObject, Qt, QThread, Signal
from PySide6.QtGui import QColor, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import (
    QApplication,
    QCheckBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMainWindow,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from edgespec import EdgespecError, Piece, Result, SpecPipeline

TINT = QColor("#cdeccd")
MAX_NEW_TOKENS = 256


class Answer(QThread):
    """Reads one stream; the window hears of it through signals, which Qt delivers in the window's own thread."""

    piece = Signal(Piece)
    done = Signal(Result)
    failed = Signal(str)

    def __init__(self, pipeline: SpecPipeline, prompt: str, parent: QObject) -> None:
        super().__init__(parent)
        self._pipeline = pipeline
        self._prompt = prompt

    def run(self) -> None:
        try:
            for item in self._pipeline.stream(self._prompt, max_new_tokens=MAX_NEW_TOKENS):
                (self.piece if isinstance(item, Piece) else self.done).emit(item)
        except EdgespecError as error:
            self.failed.emit(str(error))


class Loading(QThread):
    """Waits for the pipeline, which loads on a thread of its own."""

    done = Signal(str)

    def __init__(self, pipeline: SpecPipeline, parent: QObject) -> None:
        super().__init__(parent)
        self._pipeline = pipeline

    def run(self) -> None:
        try:
            self._pipeline.wait_until_ready()
            self.done.emit("")
        except EdgespecError as error:
            self.done.emit(str(error))


class Window(QMainWindow):
    """Prompt, text, Stop, and a line that says what happens."""

    def __init__(self, pair: Path) -> None:
        super().__init__()
        self.setWindowTitle("edgespec")
        self.text = QPlainTextEdit()
        self.prompt = QLineEdit(placeholderText="Text to continue")
        self.go = QPushButton("Go", enabled=False)
        self.stop = QPushButton("Stop", enabled=False)
        self.tint = QCheckBox("Tint tokens of the draft", checked=True)
        self.status = QLabel(f"Loading {pair.name} ...")
        self._answer: Answer | None = None
        self._tokens = 0
        self._began = 0.0
        self._lay_out()
        self.go.clicked.connect(self.ask)
        self.prompt.returnPressed.connect(self.ask)
        self.pipeline = SpecPipeline(pair, background=True)
        self.stop.clicked.connect(self.pipeline.stop)
        self._loading = Loading(self.pipeline, self)
        self._loading.done.connect(self._loaded)
        self._loading.start()

    def _lay_out(self) -> None:
        self.text.setReadOnly(True)
        font = self.text.font()
        font.setFamilies(["Cascadia Mono", "Menlo", "DejaVu Sans Mono", "monospace"])
        self.text.setFont(font)
        row = QHBoxLayout()
        for widget in (self.prompt, self.go, self.stop):
            row.addWidget(widget)
        column = QVBoxLayout()
        column.addWidget(self.text)
        column.addLayout(row)
        column.addWidget(self.tint)
        column.addWidget(self.status)
        middle = QWidget()
        middle.setLayout(column)
        self.setCentralWidget(middle)
        self.resize(720, 480)

    def _loaded(self, problem: str) -> None:
        self.go.setEnabled(not problem)
        self.status.setText(problem or "Ready. " + str(self.pipeline.explain().lines[0]))

    def ask(self) -> None:
        """Continue what the prompt says."""
        if not self.go.isEnabled() or not self.prompt.text():
            return
        self.text.clear()
        self._insert(self.prompt.text(), drafted=False)
        self._tokens, self._began = 0, time.perf_counter()
        self._busy(True)
        self._answer = Answer(self.pipeline, self.prompt.text(), self)
        self._answer.piece.connect(self._show)
        self._answer.done.connect(self._finish)
        self._answer.failed.connect(self._fail)
        self._answer.start()

    def _show(self, piece: Piece) -> None:
        self._insert(piece.text, drafted=piece.drafted > 0)
        self._tokens += len(piece.token_ids)
        seconds = time.perf_counter() - self._began
        self.status.setText(f"{self._tokens} tokens, {self._tokens / seconds:.0f} tokens/s")

    def _finish(self, result: Result) -> None:
        metrics = result.metrics
        tau = "" if metrics.tau is None else f", {metrics.tau:.1f} tokens a step"
        self.status.setText(
            f"{result.finish_reason}: {len(result.token_ids)} tokens, {metrics.draft_tokens} from the draft, "
            f"{metrics.tokens_per_second:.0f} tokens/s{tau}, mode {metrics.mode}"
        )
        self._busy(False)

    def _fail(self, sentence: str) -> None:
        self.status.setText(sentence)
        self._busy(False)

    def _busy(self, busy: bool) -> None:
        self.go.setEnabled(not busy)
        self.stop.setEnabled(busy)

    def _insert(self, text: str, *, drafted: bool) -> None:
        looks = QTextCharFormat()
        if drafted and self.tint.isChecked():
            looks.setBackground(TINT)
            looks.setForeground(Qt.GlobalColor.black)
        cursor = self.text.textCursor()
        cursor.movePosition(QTextCursor.MoveOperation.End)
        cursor.insertText(text, looks)
        self.text.setTextCursor(cursor)

    def closeEvent(self, event: object) -> None:
        """The window closes at once; models are freed behind it."""
        self.pipeline.stop()
        for thread in (self._loading, self._answer):
            if thread is not None:
                thread.wait()
        self.pipeline.close()


def main() -> None:
    multiprocessing.freeze_support()  # a frozen app's child processes begin here
    app = QApplication(sys.argv)
    if len(app.arguments()) != 2:
        raise SystemExit("usage: python examples/desktop/app.py PAIR")
    window = Window(Path(app.arguments()[1]))
    window.show()
    raise SystemExit(app.exec())


if __name__ == "__main__":
    main()
