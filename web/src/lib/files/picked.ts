// What a person chose or dropped: files with their place below the folder that they go to.

export interface Picked {
  file: File;
  /** Such as `photos/2026/a.png`. */
  relative: string;
}

export interface Selection {
  files: Picked[];
  /** Folders that hold nothing, which no file brings along. */
  emptyFolders: string[];
}

/** Beyond this many files an archive is the better way. */
export const FILES_MAX = 20_000;

/** Of an `<input type="file">`, of files or of a folder. */
export function chosen(list: FileList): Selection {
  const files = Array.from(list, (file) => ({ file, relative: file.webkitRelativePath || file.name }));
  return { files: files.slice(0, FILES_MAX), emptyFolders: [] };
}

/** What was dropped, taken from the event before anything is awaited: afterwards it is empty. */
export function dropped(data: DataTransfer): (FileSystemEntry | File)[] {
  // What another page made up has no entry, but is a file.
  return Array.from(data.items).flatMap((item) => item.webkitGetAsEntry() ?? item.getAsFile() ?? []);
}

/** All that is in what was dropped. */
export async function gather(entries: (FileSystemEntry | File)[]): Promise<Selection> {
  const selection: Selection = { files: [], emptyFolders: [] };
  for (const entry of entries) {
    if (entry instanceof File) selection.files.push({ file: entry, relative: entry.name });
    else await walk(entry, '', selection);
  }
  return selection;
}

async function walk(entry: FileSystemEntry, above: string, into: Selection): Promise<void> {
  if (into.files.length >= FILES_MAX) return;
  const relative = above + entry.name;
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    into.files.push({ file, relative });
    return;
  }
  const children = await childrenOf(entry as FileSystemDirectoryEntry);
  if (children.length === 0) into.emptyFolders.push(relative);
  for (const child of children) await walk(child, `${relative}/`, into);
}

/** A reader tells a hundred at a time, and nothing when it is through. */
async function childrenOf(folder: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = folder.createReader();
  const all: FileSystemEntry[] = [];
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return all;
    all.push(...some);
  }
}
