import org.apache.flink.table.functions.ScalarFunction;

/** The function of q14: how often a character occurs in a text. Millstream has it built in. */
public class CountChar extends ScalarFunction {
    public long eval(String text, String character) {
        if (text == null || character == null || character.length() != 1) {
            return 0;
        }
        char wanted = character.charAt(0);
        long count = 0;
        for (int index = 0; index < text.length(); index++) {
            if (text.charAt(index) == wanted) {
                count++;
            }
        }
        return count;
    }
}
