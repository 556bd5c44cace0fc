"""Where compiled code is kept, and what of it.

It is on disk in a folder named by a hash of the engine's whole source and of how it is compiled, because numba itself
looks only at the file of the outermost function and would go on using what an edited callee has made wrong. Where there
can be no such folder, nothing is kept. In it nothing says where the sources are, so that it is good for every
installation of them. What can't be read there, or isn't what was written, is compiled again.

Of what is called from Python or by address, machine code is kept. Of parts, which compiled callers take in, LLVM's IR
is: the callers optimise it together with their own. numba by itself makes and keeps both of everything, which takes 1.7
times as long to compile, and most of the time to load.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import llvmlite
import numba
from llvmlite import binding as llvm
from numba.core import caching as numba_caching
from numba.core import codegen as numba_codegen
from numba.core import compiler as numba_compiler

from coldfleet.hostsim.spec.errors import UserError

_binding: Any = llvm
_config: Any = numba.config
_caching: Any = numba_caching
_codegen: Any = numba_codegen
_compiler: Any = numba_compiler
_ROOT = Path(__file__).parents[2]
_SOURCES = ("hostsim", "policies")
PART = ".part"
"""In the names of files that parts are kept in: only who compiles needs them."""


_HASH = re.compile("[0-9a-f]{16}")
_SETTINGS = ("OPT", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "LOOP_VECTORIZE", "SLP_VECTORIZE")  # numba's, by environment
_SUM = 32  # bytes at the end of a file
_KEEP_S = 30 * 86400  # code of other hashes, after it was last used

problems: list[str] = []
"""Why code isn't kept."""


def _said(error: Exception) -> str:
    where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    return f"{where}{getattr(error, 'strerror', None) or error}"


def _hash() -> str:
    digest = hashlib.sha256(repr([numba.__version__, llvmlite.__version__, *map(_setting, _SETTINGS)]).encode())
    for file in sorted(file for source in _SOURCES for file in (_ROOT / source).rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _setting(name: str) -> str:
    return str(getattr(_config, name, None))


def _place() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coldfleet"


def _use_cache_of_this_source() -> Path | None:
    """Points numba's cache to HASH in NUMBA_CACHE_DIR or ~/.cache/coldfleet; None: there can be no such folder."""
    if _config.DISABLE_JIT:
        raise UserError("NUMBA_DISABLE_JIT is set, and the simulator runs as compiled code only: unset it")
    try:
        cache = Path(_config.CACHE_DIR or _place()).absolute() / _hash()
        if not cache.is_dir():
            cache.mkdir(parents=True, exist_ok=True)
            _remove_unused(cache)
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home
        problems.append(_said(error))
        return None
    with suppress(OSError):
        os.utime(cache)  # it is in use
    _config.CACHE_DIR = str(cache)
    return cache


def _remove_unused(cache: Path) -> None:
    """Removes the folders beside it of other hashes that nobody has used for long."""
    for other in cache.parent.iterdir():
        with suppress(OSError):  # another process removes it
            if _HASH.fullmatch(other.name) and other.stat().st_mtime < time.time() - _KEEP_S:
                shutil.rmtree(other, ignore_errors=True)


class Locator(_caching.UserProvidedCacheLocator):  # type: ignore[misc]
    """Where numba keeps a function of ours: in a folder named by its package. The hash of the sources is above it."""

    def __init__(self, function: Any, file: str) -> None:
        super().__init__(function, file)
        # numba reads its settings anew when a variable NUMBA_* changes, as Ray's start does, and forgets CACHE_DIR
        self._cache_path = os.path.join(str(OWN_CACHE), self.get_suitable_cache_subpath(file))

    @classmethod
    def from_function(cls, function: Any, file: str) -> Locator | None:
        """None: it is somebody else's."""
        return cls(function, file) if OWN_CACHE and Path(file).is_relative_to(_ROOT) else None

    @classmethod
    def get_suitable_cache_subpath(cls, file: str) -> str:
        """The name of the folder."""
        return "_".join(Path(file).relative_to(_ROOT).parent.parts)

    def ensure_cache_path(self) -> None:
        """Makes the folder."""
        os.makedirs(self.get_cache_path(), exist_ok=True)

    def get_source_stamp(self) -> str:
        """Nothing more."""
        return ""


OWN_CACHE = _use_cache_of_this_source()
"""Where compiled code is kept under that hash; None: nowhere."""

_caching.CacheImpl._locator_classes.insert(0, Locator)


class _PartLibrary(_codegen.JITCodeLibrary):  # type: ignore[misc]
    """The IR of a part. Its callers optimise it together with their own, and make machine code of both."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True


class PartCompiler(_compiler.Compiler):  # type: ignore[misc]
    """Compiles a part."""

    def compile_extra(self, function: Callable[..., Any]) -> Any:
        """The function for the given types. ``entry_point`` is nothing to call: callers find the part by it."""
        state = self.state
        state.flags.no_compile = True  # after its IR
        state.library = _PartLibrary(state.targetctx.codegen(), function.__qualname__)
        result = super().compile_extra(function)._replace(entry_point=object())
        state.targetctx.insert_user_function(result.entry_point, result.fndesc, [result.library])
        return result


class _Kept(_caching.CompileResultCacheImpl):  # type: ignore[misc]
    """Machine code, with the names of what is in it to be called."""

    def get_filename_base(self, name: str, flags: str) -> str:
        """Where numba by itself would look for a file of its own form, nothing is."""
        return f"{super().get_filename_base(name, flags)}.code"

    def reduce(self, result: Any) -> Any:
        """What is written of a function."""
        library, what = result.library, result.fndesc
        known = library.codegen._engine.is_symbol_defined
        names = {name for name in (what.llvm_func_name, what.llvm_cpython_wrapper_name) if known(name)}
        environments = tuple(result._find_referenced_environments())
        code = library.name, library._get_compiled_object(), names
        return code, _without_types(what), result.environment, result.signature, environments

    def rebuild(self, context: Any, written: Any) -> Any:
        """The function again."""
        (name, machine_code, names), what, environment, signature, environments = written
        codegen = context.codegen()
        library = codegen.create_library(name)
        library.enable_object_caching()
        library._set_compiled_object(machine_code)
        library._finalize_final_module()
        codegen._engine._defined_symbols |= names
        entry_point = context.get_executable(library, what, environment)
        for each in environments:
            codegen.set_env(each.env_name, each)
        return _result(context, library, what, environment, signature, entry_point)


class _KeptPart(_caching.CompileResultCacheImpl):  # type: ignore[misc]
    """IR."""

    def get_filename_base(self, name: str, flags: str) -> str:
        """The same function may have machine code, too."""
        return super().get_filename_base(name, flags) + PART

    def reduce(self, result: Any) -> Any:
        """What is written of a part."""
        code = result.library.name, result.library._get_module_for_linking().as_bitcode()
        return code, _without_types(result.fndesc), result.environment, result.signature

    def rebuild(self, context: Any, written: Any) -> Any:
        """The part again."""
        (name, bitcode), what, environment, signature = written
        library = _PartLibrary(context.codegen(), name)
        library._final_module = library._shared_module = _binding.parse_bitcode(bitcode)
        library._finalize_final_module()
        return _result(context, library, what, environment, signature, object())


def _without_types(what: Any) -> Any:
    """The description of a function without those of its variables, which can't be written."""
    what.typemap = what.calltypes = None
    return what


def _result(context: Any, library: Any, what: Any, environment: Any, signature: Any, entry_point: Any) -> Any:
    return _compiler.compile_result(
        typing_context=context.typing_context,
        target_context=context,
        entry_point=entry_point,
        signature=signature,
        objectmode=False,
        lifted=(),
        fndesc=what,
        library=library,
        environment=environment,
        reload_init=[],
    )


class _Files(_caching.IndexDataCacheFile):  # type: ignore[misc]
    """numba's, each with a hash of its content at its end, which unpickling doesn't come to."""

    @contextmanager
    def _open_for_write(self, path: str) -> Iterator[io.BytesIO]:
        content = io.BytesIO()
        yield content
        with super()._open_for_write(path) as file:
            file.write(content.getvalue() + hashlib.sha256(content.getvalue()).digest())

    def _load_index(self) -> Any:
        return super()._load_index() if _is_whole(self._index_path) else {}

    def _load_data(self, name: str) -> Any:
        if not _is_whole(self._data_path(name)):
            raise FileNotFoundError(name)  # numba takes it so
        return super()._load_data(name)


def _is_whole(path: str) -> bool:
    try:
        content = Path(path).read_bytes()
    except OSError:
        return False
    return hashlib.sha256(memoryview(content)[:-_SUM]).digest() == content[-_SUM:]


class _Cache(_caching.FunctionCache):  # type: ignore[misc]
    """numba's own, which would load all that it knows of NumPy and SciPy before it looks: a fifth of a warm start."""

    _impl_class = _Kept

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = _Files(self.cache_path, self._impl.filename_base, self._impl.locator.get_source_stamp())

    def load_overload(self, signature: Any, context: Any) -> Any:
        """What was compiled for a signature, or None: then numba loads that, to compile.

        Two processes that write at a time can give the files of two signatures the same name.
        """
        found = self._load_overload(signature, context)
        return found if found is not None and found.signature.args == tuple(signature) else None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keeps what was compiled, where it can: on a full disk, or in somebody else's folder, it can't."""
        try:
            super().save_overload(signature, result)
        except OSError as error:
            error.filename = error.filename or str(OWN_CACHE)  # of a write it has none
            problems.append(_said(error))


class _PartCache(_Cache):
    _impl_class = _KeptPart


def kept(dispatcher: Any) -> Any:
    """Has what is compiled of a function kept on disk."""
    if OWN_CACHE:
        dispatcher._cache = _Cache(dispatcher.py_func)
    return dispatcher


def kept_part(dispatcher: Any) -> Any:
    """The same of a part."""
    if OWN_CACHE:
        dispatcher._cache = _PartCache(dispatcher.py_func)
    return dispatcher
