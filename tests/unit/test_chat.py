"""Chat templates: rendered as transformers renders them, and harmless whatever they try."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalgate.chat import MAX_CHARACTERS, ChatRenderer
from evalgate.checkpoint import TEMPLATE_DATE, ChatTemplate
from evalgate.errors import CheckpointError, SampleError
from evalgate.preflight import load_template, read_checkpoint
from tests.faults.tiny_checkpoint import Room, write_adapter, write_checkpoint, write_json, write_tokenizer

LLAMA3 = """
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}{{- "Environment: ipython\\n" }}{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" + system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
CHATML = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You help.<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% if enable_thinking is defined and enable_thinking is false %}
{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}
"""
GEMMA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant') }}{% endif %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}"
)
TRAINING = """
{%- for message in messages %}
  {%- if message.role == "skip" %}
    {%- continue %}
  {%- endif %}
  {%- if message.role == "assistant" %}
    {% generation %}
{{ message.content }}{{ eos_token }}
    {% endgeneration %}
  {%- else %}
{{ message | tojson }} {{ {"é": [1, "<b>"]} | tojson(indent=2) }}
  {%- endif %}
{% endfor %}
{{- pad_token }}{{ documents is none }}
"""
QUESTION = [{"role": "user", "content": " Was ist 2+2? <é> "}]
DIALOGUE = [*QUESTION, {"role": "assistant", "content": "4"}, {"role": "user", "content": "and 3+3?"}]
INSTRUCTED = [{"role": "system", "content": "Be brief."}, *DIALOGUE]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


@pytest.fixture(scope="module")
def renderer() -> Iterator[ChatRenderer]:
    with ChatRenderer(limit_s=20) as shared:
        yield shared


def template(text: str) -> ChatTemplate:
    return ChatTemplate("v3", {"default": text}, TOKENS)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    made = Room(tmp_path)
    write_adapter(made.adapter, write_checkpoint(made.full))
    return made


# -- equality with transformers ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """A real tokenizer of transformers; only its `apply_chat_template` is asked."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = models.WordLevel({"<s>": 0, "</s>": 1}, unk_token="<s>")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), **TOKENS)


@pytest.mark.parametrize("text", [LLAMA3, CHATML, GEMMA, TRAINING], ids=["llama3", "chatml", "gemma", "training"])
@pytest.mark.parametrize("messages", [QUESTION, DIALOGUE, INSTRUCTED], ids=["question", "dialogue", "system"])
@pytest.mark.parametrize("kwargs", [{}, {"enable_thinking": False, "bos_token": "<b>"}], ids=["plain", "kwargs"])
def test_prompts_equal_those_of_transformers(
    renderer: ChatRenderer, tokenizer: Any, text: str, messages: list[dict[str, str]], kwargs: dict[str, Any]
) -> None:
    """Byte for byte what `apply_chat_template` makes, or the same refusal."""
    try:
        expected = tokenizer.apply_chat_template(
            messages, chat_template=text, tokenize=False, add_generation_prompt=True, **kwargs
        )
    except Exception as error:
        with pytest.raises(SampleError, match=str(error)):
            renderer.render(template(text), [messages], kwargs=kwargs)
        assert text is GEMMA
        return
    assert renderer.render(template(text), [messages], kwargs=kwargs) == [expected]


def test_the_date_does_not_move(renderer: ChatRenderer) -> None:
    """`strftime_now` is the recorded date in every run, and the date is in the digest."""
    (text,) = renderer.render(template("{{ strftime_now('%Y-%m-%d') }}"), [QUESTION], kwargs={})
    assert text == TEMPLATE_DATE


def test_many_conversations_come_back_in_order(renderer: ChatRenderer) -> None:
    """Batches are a matter of transport."""
    conversations = [[{"role": "user", "content": str(number)}] for number in range(1000)]
    prompts = renderer.render(template("{{ messages[0].content }}"), conversations, kwargs={})
    assert prompts == [str(number) for number in range(1000)]
    assert renderer.render(template("x"), [], kwargs={}) == []


def test_any_text_survives(renderer: ChatRenderer) -> None:
    """Line ends, separators, astral and lone surrogates pass the pipe unchanged."""
    content = "a\r\n\u2028\x00😀\ud800"
    assert renderer.render(
        template("{{ messages[0].content }}"), [[{"role": "user", "content": content}]], kwargs={}
    ) == [content]


def test_tools_choose_their_template(renderer: ChatRenderer) -> None:
    """With `tools` among the arguments the template of that name renders, as in transformers."""
    both = ChatTemplate("v3", {"default": "plain", "tool_use": "{{ tools | length }}"})
    assert renderer.render(both, [QUESTION], kwargs={}) == ["plain"]
    assert renderer.render(both, [QUESTION], kwargs={"tools": [{}]}) == ["1"]
    with pytest.raises(CheckpointError, match="none named default"):
        renderer.render(ChatTemplate("v3", {"tool_use": ""}), [QUESTION], kwargs={})


# -- hostile templates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "leave its sandbox"),
        ("{{ cycler.__init__.__globals__.os.system('id') }}", "leave its sandbox"),
        ("{{ lipsum.__globals__['os'].popen('id').read() }}", "leave its sandbox"),
        ("{{ raise_exception.__globals__ }}", "leave its sandbox"),
        ("{{ '{0.__class__.__init__}'.format(messages) }}", "leave its sandbox"),
        ("{{ messages.append(1) }}", "leave its sandbox"),
        ("{{ 'a' * 10**7 }}", f"more than {MAX_CHARACTERS:,} characters"),
        ("{% for i in range(99999) %}{{ 'abcdefghijk' * 10 }}{% endfor %}", "characters"),
        ("{{ 'a' * 10**12 }}", "1,024 MiB of memory"),
        ("{{ [0] * 10**9 }}", "1,024 MiB of memory"),
        ("{{ range(10**9) }}", "OverflowError"),
        ("{% include '/etc/passwd' %}", "TypeError"),
        ("{% import 'os' as os %}", "TypeError"),
        ("{{ messages[9].content }}", "UndefinedError"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "RecursionError"),
        ("{% if %}", "line 1"),
        ("a\n{% endfor %}", "line 2"),
    ],
)
def test_a_bad_template_is_one_line(renderer: ChatRenderer, text: str, says: str) -> None:
    """Escapes, bombs, includes and faults are the checkpoint's error; the renderer goes on afterwards."""
    with pytest.raises(CheckpointError) as caught:
        renderer.render(template(text), [QUESTION], kwargs={})
    assert says in str(caught.value)
    assert str(caught.value).isprintable()
    assert "v3" in str(caught.value)
    assert renderer.render(template("fine"), [QUESTION], kwargs={}) == ["fine"]


def test_a_refusal_names_the_conversation(renderer: ChatRenderer) -> None:
    """A template's own raise_exception is a fault of the sample, told in its words on one printable line."""
    refusing = template("{% if messages[0].role != 'user' %}{{ raise_exception('no\x1b[31m\\nsuch role') }}{% endif %}")
    conversations = [QUESTION] * 70 + [[{"role": "system", "content": ""}]]
    with pytest.raises(SampleError, match=r"conversation 71: the template refuses it: no \[31m such role"):
        renderer.render(refusing, conversations, kwargs={})


@pytest.mark.parametrize(
    "text",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{{ (99 ** 9999999) % 7 }}",
    ],
    ids=["in Python", "in C"],
)
def test_an_endless_template_is_killed(text: str) -> None:
    """The wall clock of the parent ends it, also inside one long operation; the next template gets a fresh child."""
    with ChatRenderer(limit_s=0.5) as impatient:
        impatient.render(template("warm"), [QUESTION], kwargs={})
        began = time.monotonic()
        with pytest.raises(CheckpointError, match=r"v3: its chat template took more than 0\.5 s"):
            impatient.render(template(text), [QUESTION], kwargs={})
        assert time.monotonic() - began < 5
        assert impatient.render(template("fine"), [QUESTION], kwargs={}) == ["fine"]


def test_the_child_dies_alone_when_its_parent_is_gone() -> None:
    """A template that loops after the parent was killed meets the limit of processor time."""
    child = subprocess.Popen(
        [sys.executable, "-m", "evalgate.chat", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    child.stdin.write(f'{{"template": "{loop}", "variables": {{}}, "conversations": [[]]}}\n')
    child.communicate(timeout=60)
    assert child.returncode < 0


def test_the_child_sees_no_secret(renderer: ChatRenderer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child's environment holds what the interpreter needs and nothing else, and no file can be opened."""
    monkeypatch.setenv("HF_TOKEN", "canary-secret")
    with ChatRenderer() as fresh:
        fresh.render(template("x"), [QUESTION], kwargs={})
        assert fresh._child is not None
        process = Path(f"/proc/{fresh._child.pid}")
        environment = (process / "environ").read_bytes()
        limits = (process / "limits").read_text()
    assert b"canary" not in environment
    assert b"PYTHONPATH" in environment
    assert "Max open files            3 " in limits
    assert os.environ["HF_TOKEN"] == "canary-secret"


def test_the_child_loads_no_torch() -> None:
    """Rendering costs no ML library."""
    code = (
        "import evalgate.chat.__main__ as c, sys; c.answer({'template': 'x', 'variables': {}, 'conversations': [[]]})"
    )
    code += "; sys.exit(bool({'torch', 'transformers', 'numpy', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- templates of a checkpoint -----------------------------------------------------------------------------------------


def test_a_checkpoints_template_and_tokens_are_loaded(room: Room, renderer: ChatRenderer) -> None:
    """The template from the tokenizer's configuration, with special tokens written as text or as objects."""
    loaded = load_template(read_checkpoint(room.full))
    assert loaded is not None
    assert loaded.tokens == {"bos_token": "<s>", "eos_token": "</s>"}
    assert renderer.render(loaded, [QUESTION], kwargs={}) == ["<s> Was ist 2+2? <é> "]


def test_a_file_wins_over_the_configuration(room: Room) -> None:
    """chat_template.jinja and additional_chat_templates are read, as transformers 5 reads and writes them."""
    (room.full / "chat_template.jinja").write_text("file")
    (room.full / "additional_chat_templates").mkdir()
    (room.full / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    loaded = load_template(read_checkpoint(room.full))
    assert loaded is not None
    assert loaded.texts == {"default": "file", "tool_use": "tools"}


def test_named_templates_of_the_configuration(room: Room) -> None:
    """The older list of named templates is read too."""
    path = room.full / "tokenizer_config.json"
    write_json(path, {"chat_template": [{"name": "default", "template": "d"}, {"name": "rag", "template": "r"}]})
    loaded = load_template(read_checkpoint(room.full))
    assert loaded is not None
    assert loaded.texts == {"default": "d", "rag": "r"}


def test_the_older_special_tokens_map_wins_where_transformers_says_so(room: Room) -> None:
    """special_tokens_map.json overrides the configuration unless that lists its added tokens; named extras count."""
    write_json(room.full / "special_tokens_map.json", {"bos_token": {"content": "<old>"}, "image_token": "<i>"})
    config = {"bos_token": "<new>", "extra_special_tokens": {"audio_token": "<a>"}, "chat_template": "x"}
    write_json(room.full / "tokenizer_config.json", config)
    loaded = load_template(read_checkpoint(room.full))
    assert loaded is not None
    assert loaded.tokens == {"audio_token": "<a>", "bos_token": "<old>", "image_token": "<i>"}
    write_json(room.full / "tokenizer_config.json", config | {"added_tokens_decoder": {}})
    newer = load_template(read_checkpoint(room.full))
    assert newer is not None
    assert newer.tokens == {"audio_token": "<a>", "bos_token": "<new>"}
    assert newer.digest != loaded.digest


def test_an_adapter_takes_its_bases_template_unless_it_brings_a_tokenizer(room: Room) -> None:
    """Template and special tokens come from where the tokenizer comes from; a template of its own always counts."""
    inherited = load_template(read_checkpoint(room.adapter))
    assert inherited is not None
    assert inherited.texts["default"].startswith("{{ bos_token }}")
    (room.adapter / "chat_template.jinja").write_text("own")
    own = load_template(read_checkpoint(room.adapter))
    assert own is not None
    assert (own.texts, own.tokens) == ({"default": "own"}, inherited.tokens)
    (room.adapter / "chat_template.jinja").unlink()
    write_tokenizer(room.adapter)
    write_json(room.adapter / "tokenizer_config.json", {"bos_token": "<x>"})
    assert load_template(read_checkpoint(room.adapter)) is None


def test_no_template_is_none(room: Room) -> None:
    """What is done without one is the caller's affair."""
    write_json(room.full / "tokenizer_config.json", {"bos_token": "<s>"})
    assert load_template(read_checkpoint(room.full)) is None


def test_a_template_that_changed_since_preflight_is_refused(room: Room) -> None:
    """What renders must be what was identified, and it must be on this machine."""
    checkpoint = read_checkpoint(room.full)
    (room.full / "chat_template.jinja").write_text("swapped")
    with pytest.raises(CheckpointError, match="changed since it was identified"):
        load_template(checkpoint)
    with pytest.raises(CheckpointError, match="only from a record"):
        load_template(replace(checkpoint, path=None))


def test_a_child_that_cannot_start_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken interpreter is one line with the command that shows why."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with ChatRenderer() as broken, pytest.raises(CheckpointError, match=r"/bin/false -P -m evalgate\.chat"):
        broken.render(template("x"), [QUESTION], kwargs={})


@pytest.mark.parametrize("reply", ['{"texts": [1]}', '{"texts": []}', "[]", "no JSON", "[" * 100_000])
def test_a_child_that_answers_nonsense_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: str
) -> None:
    """Should a template ever take the child over, its answer is still only text to be checked."""
    impostor = tmp_path / "python"
    impostor.write_text(f"#!/bin/sh\necho ready\nread line\necho '{reply}'\n")
    impostor.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(impostor))
    with ChatRenderer() as taken, pytest.raises(CheckpointError, match="its chat template"):
        taken.render(template("x"), [QUESTION], kwargs={})
