"""A folder of class folders, with or without train/val/test above them -> Listing."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter
from dataclasses import dataclass, field

from headstart.core import images
from headstart.core.errors import ImageError
from headstart.core.text import count
from headstart.learn.listing import SPLITS, Listing, is_utf8, shown, some

_ROLES = ("train", "validation", "test")
# What macOS and Synology put beside the pictures: copies and thumbnails that would pass for a class.
_HIDDEN = frozenset({"__MACOSX", "@eaDir"})
_SNIFFED_BYTES = 1 << 20


@dataclass
class _Walk:
    """What is met on the way, told once at the end."""

    root: str
    skipped: Counter[str] = field(default_factory=Counter)
    odd_names: list[str] = field(default_factory=list)
    loops: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def name(self, path: str) -> str:
        return os.path.relpath(path, self.root)

    def entries(self, folder: str) -> tuple[list[str], list[str]]:
        """Return the paths of the sub-folders and of the files of a folder, sorted by name."""
        folders, files = [], []
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            self.unreadable.append(f"{self.name(folder)} ({error.strerror})")
            return [], []
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _HIDDEN:
                self.skipped["hidden"] += 1
            elif not is_utf8(entry.name):
                self.skipped["names not UTF-8"] += 1
                self.odd_names.append(self.name(entry.path))
            elif _is_folder(entry):
                folders.append(entry.path)
            else:
                files.append(entry.path)
        return folders, files

    def pictures(self, files: list[str]) -> list[str]:
        """Return the files that are pictures by their suffix or, without one, by their header."""
        found = [path for path in files if _is_picture(path)]
        if len(found) < len(files):
            self.skipped["not pictures"] += len(files) - len(found)
        return found

    def below(self, top: str, above: tuple[str, ...]) -> list[str]:
        """Return all pictures in a class folder, however deep, each folder entered once.

        Args:
            top: The class folder.
            above: The folders it was reached through; a link that leads back to one of them is a loop.
        """
        seen = {_identity(folder) for folder in above}
        found: list[str] = []
        stack = [top]
        while stack:
            folder = stack.pop()
            try:
                identity = _identity(folder)
            except OSError as error:
                self.unreadable.append(f"{self.name(folder)} ({error.strerror})")
                continue
            if identity in seen:
                self.loops.append(self.name(folder))
                continue
            seen.add(identity)
            folders, files = self.entries(folder)
            found += self.pictures(files)
            stack += reversed(folders)
        return sorted(found)

    def stray(self, files: list[str]) -> None:
        """Count pictures that lie outside any class folder."""
        found = self.pictures(files)
        self.outside += [self.name(path) for path in found]
        if found:
            self.skipped["outside class folders"] += len(found)


def read_folder(root: str) -> Listing:
    """List the pictures of a folder; classes and files come in the order of their names.

    Args:
        root: Absolute path of the folder.
    """
    listing = Listing(source=shown(root))
    if not is_utf8(root):
        listing.problems.append("the path is not UTF-8, so it cannot be written into a model: rename the folder.")
        return listing
    walk = _Walk(root, skipped=listing.skipped)
    folders, files = walk.entries(root)
    splits, others = _split_folders(walk, folders)
    if splits:
        walk.stray(files)
        if others:
            listing.skipped["beside split folders"] += len(others)
            names = some(os.path.basename(path) for path in others)
            listing.warnings.append(f"beside the split folders lie others, which are skipped: {names}.")
        for folder, split in splits:
            classes, files = walk.entries(folder)
            walk.stray(files)
            _list_classes(walk, listing, classes, (root, folder), split)
    else:
        walk.stray(files)
        _list_classes(walk, listing, folders, (root,), None)
        _look_deeper(walk, listing, folders)
    _tell(walk, listing, folders)
    return listing


def _split_folders(walk: _Walk, folders: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the folders that are splits with their roles, train first, and the folders beside them.

    A class may be called "train" (there are buses beside it), so a name alone decides nothing: a split folder
    has class folders in it, and other splits, or nothing at all, beside it.
    """
    named = [(path, SPLITS[_name(path).lower()]) for path in folders if _name(path).lower() in SPLITS]
    others = [path for path in folders if _name(path).lower() not in SPLITS]
    roles = {role for _, role in named}
    quiet = _Walk(walk.root)  # looks without counting
    holds_classes = any(quiet.entries(path)[0] for path, _ in named)
    holds_pictures = any(quiet.pictures(quiet.entries(path)[1]) for path, role in named if role == "train")
    if len(roles) > 1 and not others:
        return sorted(named, key=lambda item: _ROLES.index(item[1])), []
    if holds_classes and not holds_pictures and (len(roles) > 1 or not others):
        return sorted(named, key=lambda item: _ROLES.index(item[1])), others
    return [], folders


def _list_classes(walk: _Walk, listing: Listing, folders: list[str], above: tuple[str, ...], split: str | None) -> None:
    for folder in folders:
        # macOS stores accents decomposed, everything else composed: one class must not become two.
        label = unicodedata.normalize("NFC", _name(folder))
        pictures = walk.below(folder, above)
        for path in pictures:
            listing.add(path, label, split)
        if not pictures and walk.name(folder) not in walk.loops:
            listing.empty.append(walk.name(folder))


def _look_deeper(walk: _Walk, listing: Listing, folders: list[str]) -> None:
    """Say so where the only folder looks like the one that was meant."""
    if len(folders) == 1:
        inner = [_name(path) for path in _Walk(walk.root).entries(folders[0])[0]]
        if len(inner) > 1:
            listing.warnings.append(
                f"the only folder is {shown(_name(folders[0]))}, with {some(inner)} in it: "
                f"if those are the classes, give {shown(folders[0])}."
            )


def _tell(walk: _Walk, listing: Listing, folders: list[str]) -> None:
    if walk.unreadable:
        listing.problems.append(f"folders cannot be opened, check their permissions: {some(walk.unreadable)}.")
    if walk.outside:
        number = count(len(walk.outside), "picture")
        line = f"{number} outside any class folder, so without a label: {some(walk.outside)}"
        if listing.paths:
            listing.warnings.append(f"{line}. Skipped.")
        else:
            listing.problems.append(f"{line}. Expected one folder for each class, with its pictures in it.")
    elif not folders and not walk.unreadable:
        listing.problems.append("there are no folders in it. Expected one for each class, with its pictures in it.")
    if walk.loops:
        number = count(len(walk.loops), "link")
        listing.warnings.append(f"{number} to a folder that was read already, not followed: {some(walk.loops)}.")
    if walk.odd_names:
        number = count(len(walk.odd_names), "name")
        listing.warnings.append(f"{number} not in UTF-8, skipped; rename to use: {some(walk.odd_names)}.")


def _name(path: str) -> str:
    return os.path.basename(path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _is_picture(path: str) -> bool:
    suffix = os.path.splitext(path)[1].lower()
    if suffix:
        return suffix in images.SUFFIXES
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            images.inspect(file.read(_SNIFFED_BYTES))
    except (OSError, ImageError):
        return False
    return True
