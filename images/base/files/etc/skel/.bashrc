# Interactive bash. Everything here is built into the shell: not one program is started before the first prompt.
case $- in *i*) ;; *) return ;; esac

HISTCONTROL=ignoreboth:erasedups
HISTSIZE=50000
HISTFILESIZE=100000
shopt -s histappend checkwinsize globstar

export EDITOR=vim PAGER=less LESS=-FRX
export LS_COLORS='di=1;38;5;111:ln=38;5;80:so=38;5;176:pi=38;5;180:ex=1;38;5;114:bd=38;5;180:cd=38;5;180:su=1;38;5;203:sg=1;38;5;203:tw=38;5;111;48;5;238:ow=38;5;111;48;5;238:or=38;5;203:*.tar=38;5;203:*.gz=38;5;203:*.xz=38;5;203:*.zst=38;5;203:*.zip=38;5;203:*.png=38;5;176:*.jpg=38;5;176:*.svg=38;5;176:*.mp4=38;5;176:*.md=38;5;222:*.toml=38;5;222:*.yaml=38;5;222:*.yml=38;5;222:*.json=38;5;222'
export GREP_COLORS='mt=1;38;5;177'

alias ls='ls --color=auto'
alias ll='ls -l --human-readable'
alias la='ls -lA --human-readable'
alias grep='grep --color=auto'
alias diff='diff --color=auto'
alias ip='ip -color=auto'
alias ..='cd ..'

# The branch of the repository around the working directory, read from its files: `git` would cost a fork.
__rexec_branch() {
  local dir=$PWD head
  REPLY=
  while [[ -n $dir ]]; do
    if [[ -r $dir/.git/HEAD ]]; then
      read -r head <"$dir/.git/HEAD" || return
      if [[ $head == ref:\ refs/heads/* ]]; then REPLY=${head#ref: refs/heads/}; else REPLY=${head:0:8}; fi
      return
    fi
    dir=${dir%/*}
  done
}

__rexec_prompt() {
  local status=$? mark=177 branch=
  ((status)) && mark=203
  __rexec_branch
  # A branch name is someone else's text: it goes in through a variable, and is never expanded again.
  __rexec_ref=$REPLY
  [[ -n $__rexec_ref ]] && branch=' \[\e[38;5;245m\](${__rexec_ref})\[\e[0m\]'
  PS1="\[\e]0;\u@\h: \w\a\]\[\e[38;5;141m\]\u@\h\[\e[0m\]:\[\e[1;38;5;111m\]\w\[\e[0m\]$branch\[\e[1;38;5;${mark}m\]\\\$\[\e[0m\] "
}
PROMPT_COMMAND=__rexec_prompt
PROMPT_DIRTRIM=4

[[ -r ~/.bash_aliases ]] && . ~/.bash_aliases
return 0
